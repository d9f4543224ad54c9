"""A window of a recording in Ray Data: first its request to the decoder, then its transcript."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from asr.audio.decode import AudioLimits
from asr.errors import DataError
from asr.inference.model_info import ModelInfo
from asr.inference.pipeline import NOTHING_FOUND, DecodingOptions, open_sound, prepared
from asr.inference.recording import Window
from asr.sound import DEFAULT_CHOICE, SoundChoice, SoundReport
from asr.transcript import DecodingRequest, Transcript
from serve.config import MAX_DAMAGED_SHARE

# What one file may cost the machine that opens it: its samples are held whole while speech is looked for, 230 MB an
# hour. Longer recordings come from machines that record for days, in files that can be cut.
LIMITS = AudioLimits(
    max_bytes=8 * 1024**3,
    max_audio_s=6 * 3600.0,
    max_source_samples=6_000_000_000,
    max_damaged_share=MAX_DAMAGED_SHARE,
)


@dataclass(frozen=True)
class RecordingTask:
    """A recording to transcribe: its number in the run, its address, and its options.

    ``positions`` are those of the windows to decode; None: all. ``sound`` is the track and channel to take.
    """

    number: int
    address: str
    options: DecodingOptions
    positions: frozenset[int] | None = None
    sound: SoundChoice = DEFAULT_CHOICE


@dataclass(frozen=True)
class WindowTask:
    """The window at ``position`` of the ``of`` windows of recording ``number``, or a word about all of it.

    ``content`` is a clip on the way to the decoder and a transcript behind it. A recording in which nobody speaks is
    one task of no window without content; so is, with a DataError, one that cannot be used. ``report`` is what
    decoding the file found.
    """

    number: int
    position: int
    of: int
    duration_s: float
    window: Window
    content: DecodingRequest | Transcript | DataError | None
    report: SoundReport = NOTHING_FOUND


def window_tasks(task: RecordingTask, model: ModelInfo) -> Iterator[WindowTask]:
    """Yield a recording's windows, features computed one by one as they are asked for. CPU-bound."""
    nowhere = Window(0, 0)
    try:
        sound = open_sound(task.address, LIMITS, model, task.sound)
    except DataError as error:
        yield WindowTask(task.number, 0, 0, 0.0, nowhere, error)
        return
    count, duration_s = len(sound.windows), sound.duration_s
    wanted = [i for i in range(count) if task.positions is None or i in task.positions]
    if not wanted:
        yield WindowTask(task.number, 0, 0, duration_s, nowhere, None, sound.report)
    first = sound.first if wanted[:1] == [0] else None
    ready = prepared(replace(sound, windows=[sound.windows[i] for i in wanted], first=first), model)
    for position, (window, features) in zip(wanted, ready, strict=True):
        clip = task.options.clip(features, task.options.language)
        yield WindowTask(task.number, position, count, duration_s, window, clip, sound.report)


def cost_s(clip: DecodingRequest, model: ModelInfo) -> float:
    """Return the seconds of audio that the encoder sees."""
    return model.encoder_s(clip)
