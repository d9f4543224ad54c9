"""Transcription pipeline of the endpoint and in process: audio to clips, and transcripts to a recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE, AudioLimits
from asr.audio.sandbox import WHOLE, decode
from asr.audio.sounding import held_bytes
from asr.config import suggestion
from asr.errors import DataError, UserError
from asr.inference.known_model import KnownModel
from asr.inference.model_info import ModelInfo
from asr.inference.recording import Joiner, Recording, Window
from asr.inference.window_list import WindowList
from asr.inference.windows import cut
from asr.language import NAMES, code_or_none, instead, is_detected, name
from asr.models.abilities import Ability, require
from asr.models.processor import LONGEST_WINDOW_S
from asr.sound import DEFAULT_CHOICE, EACH, SoundChoice, SoundReport, of_each
from asr.transcript import DecodingRequest, FeatureArray, Task, Transcript

# Channels that are transcribed each on its own: each is decoded, held and transcribed like a recording.
MAX_CHANNELS = 8

NOTHING_FOUND = SoundReport(0)

Watch = Callable[[int, int, int], None]
"""Gets, for each channel that is transcribed, its number, the number of its samples and the bytes they take."""


def unwatched(channel: int, samples: int, nbytes: int) -> None:
    """Watch nothing: the recording may take any memory and time."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options for decoding every window of a recording.

    ``language`` None: detect it, once for the recording, or, with ``language_per_window``, for each window.
    """

    language: str | None = None
    language_per_window: bool = False
    task: Task = "transcribe"
    prompt: str = ""
    temperature: float = 0.0
    timestamps: bool = False
    words: bool = False
    keywords: tuple[str, ...] = ()

    def clip(self, features: FeatureArray, language: str | None) -> DecodingRequest:
        """Return the request for one window's ``features``, in ``language``."""
        return DecodingRequest(
            features,
            language,
            self.task,
            self.prompt,
            self.temperature,
            self.timestamps,
            self.words,
            self.keywords,
        )


@dataclass(frozen=True)
class DecodedAudio:
    """A decoded recording: 16 kHz samples, and the windows of at most 30 s in which somebody speaks.

    ``first`` are the log-mel features [M, T] of the first window, where they were computed with it. ``forget`` gives
    back the memory of so many samples from the beginning: two hours of them are 460 MB. ``report`` is what decoding
    found. ``channels`` are there if each is transcribed on its own: then ``windows`` are those of all channels, in
    the order in which they begin, and ``waveform`` is the first channel's.
    """

    waveform: NDArray[np.float32]
    windows: Sequence[Window]
    first: FeatureArray | None = field(default=None, repr=False, compare=False)
    forget: Callable[[int], None] = field(default=lambda samples: None, repr=False, compare=False)
    report: SoundReport = NOTHING_FOUND
    channels: tuple[DecodedAudio, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds, silence included."""
        return len(self.waveform) / SAMPLE_RATE

    @property
    def decoded_s(self) -> float:
        """Seconds of audio that are transcribed: the length of each channel that is transcribed on its own."""
        return self.duration_s * max(len(self.channels), 1)

    @property
    def silent_s(self) -> float:
        """Seconds of it in which nobody speaks."""
        return self.decoded_s - sum(window.end_s - window.start_s for window in self.windows)

    def cost_s(self, model: ModelInfo) -> float:
        """Return the seconds of audio that the model's encoder will see."""
        return sum(model.samples_s(window.end - window.start) for window in self.windows)

    def expected_s(self, model: ModelInfo) -> float:
        """Return ``cost_s`` as far as windows are cut; the rest counts as if somebody spoke all the time."""
        if not isinstance(self.windows, WindowList) or self.windows.complete:
            return self.cost_s(model)
        cut = self.windows.taken
        rest_s = self.duration_s - cut[-1].end_s if cut else self.duration_s
        longest = round(model.window_s * SAMPLE_RATE)
        return sum(model.samples_s(each.end - each.start) for each in cut) + (
            model.samples_s(longest) * rest_s / model.window_s
        )

    def of(self, window: Window) -> DecodedAudio:
        """Return the audio that a window was cut from."""
        return self if window.channel is None else self.channels[window.channel]


def spoken_language(named: str | None, model: ModelInfo | KnownModel) -> str | None:
    """Return the code that a request's language (code, name or locale) stands for; None, as for ``auto``: detect it.

    Raises UserError where it is no language, or none of the model's, and for ``auto`` where the model detects none.
    """
    language = code_or_none(named)
    if language is None:
        if is_detected(named):
            require(model.name, ["language detection"], model.refusals)
        return model.language
    if model.languages and language not in model.languages:
        if len(model.languages) == 1:
            only = name(next(iter(model.languages)))
            raise UserError(f"'{model.name}' knows {only} only, not {name(language)}", "use a multilingual model")
        near = suggestion(language, sorted(model.languages)) if language in NAMES else instead(language)
        raise UserError(f"'{model.name}' has no token for {name(language)}", near)
    return language


def check_abilities(options: DecodingOptions, model: ModelInfo | KnownModel) -> None:
    """Raise UserError if the model lacks an ability that the options ask for."""
    asked: dict[Ability, bool] = {
        "translation": options.task == "translate",
        "prompt": bool(options.prompt.strip()),
        "keywords": bool(options.keywords),
        "temperature": options.temperature > 0,
        "language detection": options.language_per_window,
        "segment times": options.timestamps,
        "word times": options.words,
    }
    require(model.name, [ability for ability, is_asked in asked.items() if is_asked], model.refusals)


def open_sound(
    source: bytes | str | Path,
    limits: AudioLimits,
    model: ModelInfo | None = None,
    choice: SoundChoice = DEFAULT_CHOICE,
    watch: Watch = unwatched,
    between_s: tuple[float, float | None] = WHOLE,
) -> DecodedAudio:
    """Decode the chosen track and channel of a recording, in a child process, and find the speech. CPU-bound.

    ``between_s`` are the start and end of the stretch that is taken (None: the recording's end), of one channel; times
    count from there.
    Windows are cut as they are asked for. With ``model`` they are as long as it hears well, and the first one's
    features are computed too: most recordings have no other, and each way to another thread and back takes its time.
    Raises DataError as ``asr.audio.sandbox.decode`` does, and
    too_many_channels, or the Stop that ``watch`` raises.
    """
    longest_s = model.window_s if model else LONGEST_WINDOW_S
    if choice.channel == EACH:
        sound = _each_channel(source, limits, choice.track, watch, longest_s)
    else:
        sound = _opened(source, limits, choice, partial(watch, 0), longest_s, between_s)
    if not model or not sound.windows:
        return sound
    window = sound.windows[0]
    return replace(sound, first=model.features(sound.of(window).waveform[window.start : window.end]))


def _opened(
    source: bytes | str | Path,
    limits: AudioLimits,
    choice: SoundChoice,
    watch: Callable[[int, int], None],
    longest_s: float,
    between_s: tuple[float, float | None] = WHOLE,
) -> DecodedAudio:
    decoded = decode(source, limits, choice, watch, between_s, speech=True)
    length = len(decoded.waveform)

    def forget(samples: int) -> None:
        decoded.forget(samples)
        watch(length, held_bytes(decoded.stretches, samples))

    coming = cut(decoded.waveform, decoded.stretches, longest_s, decoded.speech)
    found = WindowList(coming) if decoded.speech is None else list(coming)
    forget(found[0].start if found else length)
    return DecodedAudio(decoded.waveform, found, None, forget, decoded.report)


def _each_channel(
    source: bytes | str | Path, limits: AudioLimits, track: int | None, watch: Watch, longest_s: float
) -> DecodedAudio:
    """Decode a recording once for each channel: a child hands over one channel at a time, and most files have two.

    ``max_audio_s`` is for all channels together.
    """
    channels = [_opened(source, limits, SoundChoice(track, "0"), partial(watch, 0), longest_s)]
    count = channels[0].report.channels
    if count > MAX_CHANNELS:
        hint = f"at most {MAX_CHANNELS} can be transcribed each on its own: choose one by its number"
        raise DataError("too_many_channels", f"the recording has {count} channels, and {hint}")
    length_s = channels[0].duration_s
    if count * length_s > limits.max_audio_s:  # the samples of all are held at the same time
        what = f"{count} channels of {length_s:.1f} s, over {limits.max_audio_s:g} s in all"
        raise DataError("too_long", f"the recording has {what}: choose one by its number")
    for number in range(1, count):
        choice = SoundChoice(track, str(number))
        channels.append(_opened(source, limits, choice, partial(watch, number), longest_s))
    found = [replace(window, channel=number) for number, each in enumerate(channels) for window in each.windows]
    return DecodedAudio(
        waveform=channels[0].waveform,
        windows=sorted(found, key=lambda window: window.start),  # of those that begin together, the first channel's
        report=of_each([each.report for each in channels]),
        channels=tuple(channels),
    )


def prepared(sound: DecodedAudio, model: ModelInfo) -> Iterator[tuple[Window, FeatureArray]]:
    """Yield each window with its log-mel features [M, T], computed on demand: long audio needs no more memory.

    Samples are freed once they have been used: call this only once for a recording.
    """
    for number, window in enumerate(sound.windows):
        source = sound.of(window)
        if number or sound.first is None:
            features = model.features(source.waveform[window.start : window.end])
        else:
            features = sound.first
        source.forget(window.end)
        yield window, features


def as_answered(transcript: Transcript, task: Task) -> Transcript:
    """Return a transcript with the language of its text: a translation is English, whatever was spoken."""
    return replace(transcript, language="en") if task == "translate" else transcript


def joined(
    results: Iterable[tuple[Window, Transcript]], options: DecodingOptions, duration_s: float, report: SoundReport
) -> Recording:
    """Join the transcripts of windows and the report of decoding into a recording."""
    joiner = Joiner()
    for window, transcript in results:
        joiner.add(window, as_answered(transcript, options.task))
    joiner.rest(duration_s)
    return joiner.recording(duration_s, options.language, report)
