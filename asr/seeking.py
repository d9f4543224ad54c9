"""Where decoding begins for a stretch in the middle of a file: near it, where that is sure to be found, or at zero."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from typing import Any, BinaryIO

from asr.raw_frames import intact_until
from asr.truncation import TOLERANCE_S, is_chained

AHEAD_S = 0.5  # decoders with memory (G.722, Opus, MP3) have settled by the time the wanted stretch begins

# FFmpeg reckons a place in these from bytes and rates alone. That holds for samples of a fixed size: in a WAV of ADPCM
# it lands seconds away, and in an MPEG program stream of AC-3 it finds nothing.
BY_BYTES = frozenset({"wav", "w64", "aiff", "caf"})
UNSURE = frozenset({"mpeg"})

MAX_KNOWN = 4096
_known: OrderedDict[tuple[int, int, int, int], float] = OrderedDict()
"""Until which tick files on disk are intact, as found by this process: many rows are stretches of one file."""


class SeekMissed(Exception):
    """What is wanted is only found by decoding from the beginning."""


def can_seek(media: Any, stream: Any, file: BinaryIO, told_s: float, end_s: float) -> bool:
    """Whether FFmpeg finds a stretch that ends at ``end_s`` in an opened container that it takes to end at ``told_s``.

    Not in joined files: what follows their first part is beyond the end that its header tells, or at its times again.
    """
    name = media.format.name.split(",")[0]
    by_bytes = name in BY_BYTES and not stream.codec_context.name.startswith("pcm_")
    beyond = bool(told_s) and end_s > told_s + TOLERANCE_S
    return not (by_bytes or name in UNSURE or beyond or is_chained(file))


def is_intact(media: Any, stream: Any, file: BinaryIO, until: float) -> bool:
    """Whether all before the tick ``until`` of a stream that is nothing but frames is sound: time stamps then hold."""
    key, name = _identity(file), media.format.name
    if key is None:
        return intact_until(media.demux(stream), file, name, until) >= until
    if key not in _known:
        _known[key] = intact_until(media.demux(stream), file, name)
        if len(_known) > MAX_KNOWN:
            _known.popitem(last=False)
    return _known[key] >= until


def _identity(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Return what tells a file on disk, and its content, from all others; None for one that is none."""
    try:
        found = os.fstat(file.fileno())
    except (OSError, io.UnsupportedOperation):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
