"""Chooses the decoding start for a stretch in the middle of a file: near it if that is sure to be found, else zero."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.formats.mpegts import JOINED_S
from asr.audio.integrity import TOLERANCE_S, is_chained
from asr.audio.track.known import is_on_disk, remembered
from asr.audio.track.packets import Packets
from asr.audio.track.raw_frames import intact_until

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

AHEAD_S = 0.5  # decoders with memory (G.722, Opus, MP3) have settled by the time the wanted stretch begins

# FFmpeg reckons a place in these from bytes and rates alone. That holds for samples of a fixed size: in a WAV of ADPCM
# it lands seconds away, and in an MPEG program stream of AC-3 it finds nothing.
BY_BYTES = frozenset({"wav", "w64", "aiff", "caf"})
UNSURE = frozenset({"mpeg"})

JOINED = frozenset({"mpegts"})


class SeekMissed(Exception):
    """Raised where the wanted stretch is only found by decoding from the beginning."""


def can_seek(media: InputContainer, stream: av.AudioStream, file: BinaryIO, told_s: float, end_s: float) -> bool:
    """Return whether FFmpeg finds a stretch up to ``end_s`` in a container that it takes to end at ``told_s``.

    Not in joined files: what follows their first part is beyond the end that its header tells, or at its times again.
    """
    name = media.format.name.split(",")[0]
    by_bytes = name in BY_BYTES and not stream.codec_context.name.startswith("pcm_")
    beyond = bool(told_s) and end_s > told_s + TOLERANCE_S
    return not (by_bytes or name in UNSURE or beyond or is_chained(file))


def is_intact(media: InputContainer, stream: av.AudioStream, file: BinaryIO, kind: str, until: float) -> bool:
    """Return whether the stamps of all packets before the tick ``until`` are those of their audio.

    Asked of streams that are nothing but frames, and of transport streams, which may have been joined.
    """
    if not is_on_disk(file):
        return _until(media, stream, file, kind, until) >= until
    return remembered("intact", file, lambda: _until(media, stream, file, kind, math.inf)) >= until


def _until(media: InputContainer, stream: av.AudioStream, file: BinaryIO, kind: str, until: float) -> float:
    packets = (found.packet for found in Packets(media, stream, file))
    if kind not in JOINED:
        return intact_until(packets, file, kind, until)
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    steps = [(after - before) * float(stream.time_base) for before, after in pairwise(stamps)]
    return math.inf if all(-TOLERANCE_S < step < JOINED_S for step in steps) else 0.0
