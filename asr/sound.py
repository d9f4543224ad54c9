"""The choice of a track and its channels in a file, and the report of decoding it, with what is missing from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from asr.errors import UserError
from asr.printable import printable

AUTO, MIX, EACH = "auto", "mix", "each"
SIDES = {"left": 0, "right": 1}
NAMED = (AUTO, MIX, *SIDES, EACH)
MAX_INDEX = 511  # FFmpeg's own limit of channels, less one


def is_index(text: str) -> bool:
    """Return whether a text is the number of a track or channel, from 0."""
    return text.isdecimal() and len(text) <= len(str(MAX_INDEX)) and int(text) <= MAX_INDEX


@dataclass(frozen=True, slots=True)
class SoundChoice:
    """The chosen track and channels of a file that holds more than one.

    ``track`` counts the audio tracks from 0, as FFmpeg's ``0:a:1`` does; None: the one that the container marks as its
    default. ``channel``: ``mix`` is the mean of all; ``auto`` is the mix too, but the loudest one where the channels
    cancel each other; ``left`` and ``right`` are the first and the second, a number counts from 0. ``each`` is every
    channel on its own: who asks for it must have replaced it by the channels there are before anything is decoded.
    """

    track: int | None = None
    channel: str = AUTO

    def __post_init__(self) -> None:
        """Raises UserError for a track or channel that no file can have."""
        if self.track is not None and not 0 <= self.track <= MAX_INDEX:
            raise UserError(f"track is a number from 0 to {MAX_INDEX}, not {self.track}")
        if self.channel not in NAMED and not is_index(self.channel):
            raise UserError(
                f"channel is one of {', '.join(NAMED)}, or a number from 0, not '{printable(self.channel)}'"
            )

    @property
    def index(self) -> int | None:
        """The number of the one wanted channel, from 0; None for a mixture."""
        return SIDES.get(self.channel, int(self.channel) if self.channel.isdecimal() else None)

    @property
    def label(self) -> str:
        """The mark, in an id, of this audio among others of one file: ``#track1#left``, "" for the usual choice."""
        track = "" if self.track is None else f"#track{self.track}"
        channel = f"channel{self.channel}" if self.channel.isdecimal() else self.channel
        return track if channel == AUTO else f"{track}#{channel}"


DEFAULT_CHOICE = SoundChoice()


@dataclass(frozen=True, slots=True)
class SoundReport:
    """The findings of decoding a file.

    ``track`` of ``tracks`` audio tracks was taken, and of its ``channels`` the one, or the mixture, that ``channel``
    names as in ``SoundChoice``. Of ``samples`` at 16 kHz, ``damaged_s`` seconds stand for what could not be decoded.
    ``warnings`` say in words what a listener should know: silence in place of damage, a choice that was made.
    """

    samples: int
    track: int = 0
    tracks: int = 1
    channel: str = MIX
    channels: int = 1
    damaged_s: float = 0.0
    warnings: tuple[str, ...] = field(default=())

    @property
    def decoded_channels(self) -> int:
        """The number of channels transcribed on their own: all of them with ``each``, else the one that was taken."""
        return self.channels if self.channel == EACH else 1


def of_each(reports: Sequence[SoundReport]) -> SoundReport:
    """Return what was found in a file that was decoded once for each of its channels; what all say is said once."""
    return replace(
        reports[0],
        samples=max(report.samples for report in reports),
        channel=EACH,
        damaged_s=max(report.damaged_s for report in reports),
        warnings=tuple(dict.fromkeys(warning for report in reports for warning in report.warnings)),
    )
