"""Turns one micro-batch of utterances into tensors: decoded, augmented, log-mel, masked, and with its labels.

Legend: B clips of a micro-batch, M mel bins, T frames of all of them end to end, L label tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.audio.sandbox import MOST_TASKS, decode_utterances
from asr.audio.silence import require_sound
from asr.data.segments import LabelledSegment
from asr.errors import DataError
from asr.models.processor import IGNORED
from asr.utterance import Quarantined, Utterance
from train.augmentation.augment import SpeedPerturbation, augment, mask
from train.examples import MicroBatchSpec, PackedExample, PreprocessConfig, processor_of

DecodeResult = NDArray[np.float32] | DataError


@dataclass(frozen=True)
class MicroBatchTensors:
    """A micro-batch as it leaves Ray Data. Features are the clips' own frames: padding waits for the trainer.

    features_MT  [M, T], the clips end to end; float16, or float32 of raw waveforms
    frames_B     int64 [B], the frames of each
    labels_BL    int64 [B, L], the decoder's tokens, padded with -100
    unscored_B   int64 [B], how many of them come before start-of-transcript
    context_s    seconds of each clip that the network will encode
    own_s        the sum of the contexts that each clip would have alone
    audio_s      seconds of speech, all clips together
    epoch, ids   the epoch and its utterances in the micro-batch, usable or not
    faults       the utterances that could not be used
    """

    features_MT: NDArray[np.float16 | np.float32]
    frames_B: NDArray[np.int64]
    labels_BL: NDArray[np.int64]
    unscored_B: NDArray[np.int64]
    context_s: float
    own_s: float
    audio_s: float
    epoch: int
    ids: tuple[str, ...]
    faults: tuple[Quarantined, ...]


@dataclass(frozen=True)
class _Clip:
    features: NDArray[np.float16 | np.float32]
    label: list[int]
    unscored: int
    samples: int


def prepare(spec: MicroBatchSpec, preprocess: PreprocessConfig) -> MicroBatchTensors:
    """Decode one micro-batch to tensors. An utterance that cannot be used becomes a fault, never an error."""
    return next(prepare_all([spec], preprocess))


def prepare_all(specs: Sequence[MicroBatchSpec], preprocess: PreprocessConfig) -> Iterator[MicroBatchTensors]:
    """Yield micro-batches as ``prepare`` returns them.

    Some are decoded in one call: a round trip to the decoding process costs a tenth of a clip, more on a busy machine.
    """
    start, count = 0, 0
    for end, spec in enumerate(specs, 1):
        count += len(_utterances(spec))
        if end == len(specs) or count + len(_utterances(specs[end])) > MOST_TASKS:
            some, start, count = specs[start:end], end, 0
            met = [utterance for each in some for utterance in _utterances(each)]
            sounds = decode_utterances(met, preprocess.limits)
            for each in some:
                yield _row(each, sounds, preprocess)


def _utterances(spec: MicroBatchSpec) -> list[Utterance]:
    return [utterance for example in spec.examples for utterance in example.utterances]


def _row(spec: MicroBatchSpec, sounds: Iterator[DecodeResult], preprocess: PreprocessConfig) -> MicroBatchTensors:
    faults: list[Quarantined] = []
    made = [_clip(example, sounds, spec.epoch, preprocess, faults) for example in spec.examples]
    clips = [clip for clip in made if clip is not None]
    samples = sum(clip.samples for clip in clips)
    if not clips:  # the step still needs a batch on every worker: silence that no token is scored on
        features = processor_of(preprocess.checkpoint).features
        clips = [_Clip(features(np.zeros(SAMPLE_RATE, dtype=np.float32)), [IGNORED, IGNORED], 0, 0)]
    width = max(len(clip.label) for clip in clips)
    return MicroBatchTensors(
        features_MT=np.concatenate([clip.features for clip in clips], axis=1),
        frames_B=np.array([clip.features.shape[1] for clip in clips]),
        labels_BL=np.array([clip.label + [IGNORED] * (width - len(clip.label)) for clip in clips]),
        unscored_B=np.array([clip.unscored for clip in clips]),
        context_s=spec.context_s,
        own_s=spec.own_s,
        audio_s=samples / SAMPLE_RATE,
        epoch=spec.epoch,
        ids=tuple(utterance.id for utterance in _utterances(spec)),
        faults=tuple(faults),
    )


def _clip(
    example: PackedExample,
    sounds: Iterator[DecodeResult],
    epoch: int,
    preprocess: PreprocessConfig,
    faults: list[Quarantined],
) -> _Clip | None:
    """Return an example without the utterances that cannot be used, which join ``faults``; None if none is left.

    ``sounds`` has the waveforms of its utterances next.
    """
    processor = processor_of(preprocess.checkpoint)
    waveforms: list[NDArray[np.float32]] = []
    used: list[Utterance] = []
    segments: list[LabelledSegment] = []
    samples, most = 0, _window_samples(preprocess)
    for utterance, sound in zip(example.utterances, sounds, strict=False):
        try:
            said = processor.usable(utterance.text)
            waveform = _waveform(utterance, sound, epoch, preprocess)
            end = samples + len(waveform)
            if end > most:  # longer than the manifest said
                raise DataError("too_long", f"its window lasts over {processor.window_s:g} s with it")
            segments.append(LabelledSegment(samples / SAMPLE_RATE, end / SAMPLE_RATE, said))
        except DataError as fault:
            faults.append(Quarantined(utterance.id, fault.reason, fault.detail))
            continue
        waveforms.append(waveform)
        used.append(utterance)
        samples = end
    if not used:
        return None
    try:
        language = used[0].language or preprocess.language
        label = processor.label(segments, language, preprocess.task, example.timestamps)
    except DataError as fault:
        faults += [Quarantined(utterance.id, fault.reason, fault.detail) for utterance in used]
        return None
    previous = processor.previous(example.previous) if example.previous else []
    if len(previous) + len(label) > processor.max_label_tokens:
        previous = []
    features = mask(
        processor.features(np.concatenate(waveforms)), used[0].id, preprocess.augment, preprocess.seed, epoch
    )
    return _Clip(features, previous + label, len(previous), samples)


def _waveform(
    utterance: Utterance, sound: DecodeResult, epoch: int, preprocess: PreprocessConfig
) -> NDArray[np.float32]:
    if isinstance(sound, DataError):
        raise sound
    waveform = sound
    require_sound(waveform)  # before noise is added to it
    augmented = augment(waveform, utterance.id, preprocess.augment, preprocess.seed, epoch)
    if len(augmented) > _window_samples(preprocess):  # played slower than it fits; the plan counts on it, too
        at_its_speed = preprocess.augment.model_copy(update={"speed": SpeedPerturbation()})
        augmented = augment(waveform, utterance.id, at_its_speed, preprocess.seed, epoch)
    return augmented


def _window_samples(preprocess: PreprocessConfig) -> int:
    return round(processor_of(preprocess.checkpoint).window_s * SAMPLE_RATE)
