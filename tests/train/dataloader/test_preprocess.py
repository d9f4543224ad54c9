from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.audio.features import num_frames
from asr.errors import UserError
from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.models.processor import IGNORED
from asr.models.whisper.loss import token_loss
from asr.utterance import Utterance
from train.augmentation.augment import Augmentation, Spec, SpeedPerturbation, augment, mask
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare
from train.examples import MicroBatchSpec, PackedExample, PreprocessConfig

PREPROCESS = PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe")


def spec(utterances: Sequence[Utterance], context_s: float = 6.0) -> MicroBatchSpec:
    return MicroBatchSpec(tuple(PackedExample((utterance,)) for utterance in utterances), context_s, own_s=9.5, epoch=3)


def faulty(clip: Utterance) -> dict[str, Utterance]:
    """One utterance for each reason, made from a good one."""
    long = encode_flac(np.random.default_rng(0).uniform(-0.1, 0.1, 31 * SAMPLE_RATE).astype(np.float32))
    return {
        "missing_file": replace(clip, id="gone", audio="/no/such/file.flac"),
        "no_transcript": replace(clip, id="empty", text="  "),
        "silent": replace(clip, id="mute", audio=encode_flac(np.zeros(2 * SAMPLE_RATE, dtype=np.float32))),
        "label_too_long": replace(clip, id="wordy", text="one two " * 300),
        "too_long": replace(clip, id="long: very", audio=long, duration_s=31.0),
        "not_audio": replace(clip, id="text", audio=b"these are words, not sounds"),
    }


def test_features_of_true_length_and_labels_of_what_is_said(
    flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    clips = flac_clips[:3]
    row = prepare(spec(clips), PREPROCESS)
    waveforms = [decode(clip.audio) for clip in clips]
    assert row.frames_B.tolist() == [num_frames(len(waveform)) for waveform in waveforms]
    assert row.features_MT.dtype == np.float16
    parts = np.split(row.features_MT, np.cumsum(row.frames_B)[:-1], axis=1)
    for part, waveform in zip(parts, waveforms, strict=True):
        assert np.array_equal(part, english_model.features(waveform))
    tokenizer = english_model.tokenizer
    for label, clip in zip(row.labels_BL.tolist(), clips, strict=True):
        said = [token for token in label if token != IGNORED]
        assert tokenizer.convert_ids_to_tokens(said[:2]) == ["<|startoftranscript|>", "<|notimestamps|>"]
        assert said[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(said, skip_special_tokens=True) == f" {clip.text.strip()}"
        assert set(label[len(said) :]) <= {IGNORED}
    assert row.unscored_B.tolist() == [0, 0, 0]
    assert row.audio_s == pytest.approx(sum(clip.duration_s or 0.0 for clip in clips), abs=1e-3)
    assert (row.context_s, row.own_s, row.epoch, row.faults) == (6.0, 9.5, 3, ())
    assert row.ids == tuple(clip.id for clip in clips)


@pytest.mark.medium
def test_what_cannot_be_used_is_named_and_the_rest_goes_on(flac_clips: list[Utterance]) -> None:
    good, bad = flac_clips[:2], faulty(flac_clips[0])
    row = prepare(spec([good[0], *bad.values(), good[1]]), PREPROCESS)
    assert [fault.reason for fault in row.faults] == list(bad)
    assert [fault.id for fault in row.faults] == [utterance.id for utterance in bad.values()]
    assert "/no/such/file.flac" in row.faults[0].detail
    assert len(row.ids) == 8  # met, if not usable
    alone = prepare(spec(good), PREPROCESS)
    assert np.array_equal(row.features_MT, alone.features_MT)
    assert np.array_equal(row.labels_BL, alone.labels_BL)
    assert row.audio_s == alone.audio_s


def test_a_window_without_its_faulty_part(flac_clips: list[Utterance], english_model: SpeechModel) -> None:
    """Audio and text of the others stay in step: times are those of the audio that is left."""
    bad = faulty(flac_clips[0])
    parts = (flac_clips[0], bad["missing_file"], flac_clips[1], bad["no_transcript"], flac_clips[2])
    row = prepare(MicroBatchSpec((PackedExample(parts, timestamps=True),), 30.0), PREPROCESS)
    assert [fault.reason for fault in row.faults] == ["missing_file", "no_transcript"]
    waveforms = [decode(clip.audio) for clip in flac_clips[:3]]
    assert np.array_equal(row.features_MT, english_model.features(np.concatenate(waveforms)))
    label = row.labels_BL[0].tolist()
    zero = english_model.tokenizer.convert_tokens_to_ids("<|notimestamps|>") + 1
    times = [(token - zero) * 0.02 for token in label if token >= zero]
    borders = np.cumsum([0, *map(len, waveforms)]) / SAMPLE_RATE
    assert times == pytest.approx([t for pair in pairwise(borders) for t in pair], abs=0.0101)
    said = english_model.tokenizer.decode([token for token in label if token < zero], skip_special_tokens=True)
    assert said == "".join(f" {clip.text.strip()}" for clip in flac_clips[:3])
    same = prepare(MicroBatchSpec((PackedExample(tuple(flac_clips[:3]), timestamps=False),), 30.0), PREPROCESS)
    assert english_model.tokenizer.decode(same.labels_BL[0], skip_special_tokens=True) == said
    assert max(same.labels_BL[0]) < zero


@pytest.mark.medium
def test_a_window_longer_than_the_manifest_said_leaves_out_what_does_not_fit(flac_clips: list[Utterance]) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 29 * SAMPLE_RATE).astype(np.float32)
    long = replace(flac_clips[0], id="long", audio=encode_flac(noise), duration_s=3.0)
    row = prepare(MicroBatchSpec((PackedExample((flac_clips[0], long, flac_clips[1])),), 10.0), PREPROCESS)
    assert [(fault.id, fault.reason) for fault in row.faults] == [("long", "too_long")]
    assert row.audio_s < 13


def test_the_text_before_is_a_prompt_that_is_not_scored(
    flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    tokenizer = english_model.tokenizer
    examples = (PackedExample((flac_clips[0],), False, "what was said before"), PackedExample((flac_clips[1],)))
    row = prepare(MicroBatchSpec(examples, 6.0), PREPROCESS)
    unscored = int(row.unscored_B[0])
    assert row.unscored_B[1] == 0
    assert tokenizer.convert_ids_to_tokens(row.labels_BL[0][:1].tolist()) == ["<|startofprev|>"]
    assert tokenizer.decode(row.labels_BL[0][1:unscored]) == " what was said before"
    batch = collate(row, english_model.processor)
    assert batch["decoder_input_ids"][0, : unscored + 1].tolist() == row.labels_BL[0][: unscored + 1].tolist()
    assert (batch["labels"][0, :unscored] == IGNORED).all()
    without = collate(
        prepare(MicroBatchSpec((PackedExample((flac_clips[0],)),), 6.0), PREPROCESS), english_model.processor
    )
    scored = batch["labels"][0][batch["labels"][0] != IGNORED]
    assert scored.tolist() == without["labels"][0].tolist()


def test_every_epoch_hears_its_own_augmentation(flac_clips: list[Utterance], english_model: SpeechModel) -> None:
    config = Augmentation(speed=SpeedPerturbation(probability=1.0, factors=(0.8, 1.25)), spec=Spec(probability=1.0))
    preprocess = replace(PREPROCESS, augment=config, seed=5)
    clip = flac_clips[0]
    example = (PackedExample((clip,)),)
    rows = [prepare(MicroBatchSpec(example, 6.0, epoch=epoch), preprocess) for epoch in range(3)]
    for epoch, row in enumerate(rows):
        heard = augment(decode(clip.audio), clip.id, config, 5, epoch)
        assert row.audio_s == len(heard) / SAMPLE_RATE
        features = mask(english_model.features(heard), clip.id, config, 5, epoch)
        assert np.array_equal(row.features_MT, features)
    assert len({row.features_MT.tobytes() for row in rows}) == 3
    again = prepare(MicroBatchSpec(example, 6.0, epoch=1), preprocess)
    assert np.array_equal(again.features_MT, rows[1].features_MT)


def test_a_clip_that_would_no_longer_fit_keeps_its_speed(flac_clips: list[Utterance]) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 28 * SAMPLE_RATE).astype(np.float32)
    clip = replace(flac_clips[0], audio=encode_flac(noise), duration_s=28.0)
    preprocess = replace(PREPROCESS, augment=Augmentation(speed=SpeedPerturbation(probability=1.0, factors=(0.8,))))
    row = prepare(MicroBatchSpec((PackedExample((clip,)),), 30.0), preprocess)
    assert (row.audio_s, row.faults) == (28.0, ())


def test_silence_with_words_is_not_trained_on_whatever_is_mixed_into_it(
    flac_clips: list[Utterance], tmp_path: Path
) -> None:
    """Noise that augmentation adds is no speech; silence without words has no transcript, as ever."""
    (tmp_path / "hum.wav").write_bytes(encode_flac(np.random.default_rng(0).uniform(-0.3, 0.3, 48_000)))
    loud = Augmentation.model_validate({"noise": {"probability": 1.0, "folder": str(tmp_path)}})
    silence = encode_flac(np.random.default_rng(0).choice([0.0, 1 / 32768], 2 * SAMPLE_RATE).astype(np.float32))
    mute = replace(flac_clips[0], id="mute", audio=silence)
    row = prepare(spec([mute, replace(mute, id="wordless", text="")]), replace(PREPROCESS, augment=loud))
    assert [(fault.id, fault.reason) for fault in row.faults] == [("mute", "silent"), ("wordless", "no_transcript")]
    assert row.audio_s == 0.0


@pytest.mark.parametrize("usable", [0, 2])
def test_a_micro_batch_without_a_token_costs_nothing(
    usable: int, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    utterances = list(faulty(flac_clips[0]).values()) if usable else []
    row = prepare(spec(utterances, 0.0), PREPROCESS)
    assert (row.audio_s, len(row.faults)) == (0.0, len(utterances))
    batch = collate(row, english_model.processor)
    labels = batch.pop("labels")
    assert (labels == IGNORED).all()
    with torch.no_grad():
        outputs = english_model.network(**batch)
    assert torch.isfinite(outputs.logits).all()
    assert token_loss(outputs, labels).item() == 0.0
    assert token_loss(outputs, labels, torch.tensor(7)).item() == 0.0


def test_a_language_that_the_checkpoint_cannot_speak_is_a_persons_mistake(flac_clips: list[Utterance]) -> None:
    with pytest.raises(UserError, match="English only, not 'it'"):
        prepare(spec([replace(flac_clips[0], language="it")]), PREPROCESS)


@pytest.mark.medium
def test_a_file_that_crashes_the_codec_costs_a_micro_batch_one_clip(
    flac_clips: list[Utterance], crashing: bytes
) -> None:
    clips = [flac_clips[0], replace(flac_clips[1], id="crash", audio=crashing), *flac_clips[1:3]]
    row = prepare(spec(clips), PREPROCESS)
    assert [(fault.id, fault.reason) for fault in row.faults] == [("crash", "decoder_died")]
    assert np.array_equal(row.features_MT, prepare(spec(flac_clips[:3]), PREPROCESS).features_MT)
