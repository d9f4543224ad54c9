"""Files and forms as an attacker would send them: real ones, damaged where it hurts, each by a seed number."""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from tests.asr.sounds import FLOAT, encoded, riff, tone, wav16

SECONDS = 0.4  # short, so that the header is a good part of the file
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
WIDTHS = ("<B", "<H", "<I", "<Q", ">H", ">I", ">Q")

# The names after which sizes, counts, rates and offsets stand.
NAMES = {
    "wav": (b"RIFF", b"fmt ", b"data", b"fact"),
    "flac": (b"fLaC", b"\xff\xf8", b"reference"),
    "mp3": (b"ID3", b"Xing", b"Info", b"LAME", b"\xff\xfb", b"\xff\xfa"),
    "ogg": (b"OggS", b"OpusHead", b"OpusTags"),
    "mp4": (b"ftyp", b"moov", b"mvhd", b"tkhd", b"mdhd", b"stsd", b"mp4a", b"esds", b"stts", b"stsc", b"stsz", b"stco"),
}


@cache
def originals() -> Mapping[str, tuple[bytes, ...]]:
    """Whole files by kind, from real encoders."""
    sound = (tone(SECONDS, 48_000) + np.random.default_rng(0).normal(0, 0.05, round(SECONDS * 48_000))).astype("f4")
    with tempfile.TemporaryDirectory() as folder:

        def made(codec: str, container: str, rate: int = 48_000, **options: str) -> bytes:
            options = {"fflags": "+bitexact", **options}  # else Ogg takes a random number for its stream
            return encoded(Path(folder, "sound"), sound, codec, container, rate, **options).read_bytes()

        return {
            "wav": (
                wav16(sound, 48_000),
                wav16(np.repeat(sound[::6, None], 2, axis=1), 8_000, 2),
                riff(sound.astype("<f4").tobytes(), 48_000, bits=32, kind=FLOAT),
                made("adpcm_ms", "wav"),
            ),
            "flac": (made("flac", "flac"), made("flac", "ogg")),
            "mp3": (made("libmp3lame", "mp3"), made("libmp3lame", "mp3", id3v2_version="0", write_xing="0")),
            "ogg": (made("libopus", "ogg"), made("libopus", "ogg", page_duration="20000")),
            "mp4": (
                made("aac", "mp4"),
                made("aac", "mp4", movflags="faststart"),
                made("aac", "mp4", movflags="frag_keyframe+empty_moov"),
                made("alac", "mp4"),
            ),
        }


def damaged(number: int) -> tuple[str, bytes]:
    """Return the kind and the bytes of the file with this seed number: its original with one to four faults."""
    chance = random.Random(number)
    kind = chance.choice(sorted(originals()))
    data = bytearray(chance.choice(originals()[kind]))
    for _ in range(chance.choice((1, 1, 2, 4))):
        chance.choice(_FAULTS)(data, kind, chance)
    if kind == "ogg" and chance.random() < 0.8:
        _repair_checksums(data)  # FFmpeg drops a page whose checksum is wrong, faults and all
    return kind, bytes(data)


def _place(data: bytearray, kind: str, chance: random.Random) -> int:
    """Choose where to hit: mostly behind a name of the format, or near the beginning."""
    places = [at + len(name) for name in NAMES[kind] for at in _positions(data, name)]
    if places and chance.random() < 0.7:
        return min(chance.choice(places) + chance.randrange(32), len(data))
    return chance.randrange(1 + min(len(data), 200 if chance.random() < 0.7 else len(data)))


def _positions(data: bytearray, name: bytes) -> list[int]:
    places, at = [], data.find(name)
    while at >= 0:
        places.append(at)
        at = data.find(name, at + 1)
    return places


def _extreme(data: bytearray, kind: str, chance: random.Random) -> None:
    at, width = _place(data, kind, chance), chance.choice(WIDTHS)
    size = struct.calcsize(width)
    data[at : at + size] = struct.pack(width, chance.choice(EXTREMES) & (256**size - 1))


def _flip(data: bytearray, kind: str, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 2, 8))):
        at = _place(data, kind, chance)
        data[at : at + 1] = bytes([chance.randrange(256)])


def _cut(data: bytearray, kind: str, chance: random.Random) -> None:
    del data[_place(data, kind, chance) if chance.random() < 0.5 else chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, kind: str, chance: random.Random) -> None:
    at = _place(data, kind, chance)
    del data[at : at + chance.choice((1, 2, 4, 100))]


def _insert(data: bytearray, kind: str, chance: random.Random) -> None:
    at = _place(data, kind, chance)
    data[at:at] = chance.randbytes(chance.choice((1, 2, 4, 100)))


def _repeat(data: bytearray, kind: str, chance: random.Random) -> None:
    start, at = _place(data, kind, chance), _place(data, kind, chance)
    data[at:at] = data[start : start + chance.choice((8, 64, 512))] * chance.choice((1, 2, 50))


def _swap(data: bytearray, kind: str, chance: random.Random) -> None:
    """Put a stretch of the file where another one belongs: pages and atoms out of order."""
    start, at, size = _place(data, kind, chance), _place(data, kind, chance), chance.choice((8, 64, 512))
    part = data[start : start + size]
    data[at : at + len(part)] = part


def _splice(data: bytearray, kind: str, chance: random.Random) -> None:
    """Go on as another file, of any kind."""
    other = chance.choice(originals()[chance.choice(sorted(originals()))])
    data[_place(data, kind, chance) :] = other[chance.randrange(len(other)) :]


_FAULTS: tuple[Callable[[bytearray, str, random.Random], None], ...] = (
    _extreme,
    _extreme,
    _extreme,
    _flip,
    _flip,
    _cut,
    _remove,
    _insert,
    _repeat,
    _swap,
    _splice,
)


def _repair_checksums(data: bytearray) -> None:
    for at in _positions(data, b"OggS"):
        head = data[at : at + 27]
        if len(head) == 27:
            length = 27 + head[26] + sum(data[at + 27 : at + 27 + head[26]])
            data[at + 22 : at + 26] = bytes(4)
            data[at + 22 : at + 26] = struct.pack("<I", _ogg_checksum(data[at : at + length]))


def _ogg_checksum(page: bytes) -> int:
    total = 0
    for byte in page:
        total = (total << 8 & 0xFFFFFFFF) ^ _TABLE[total >> 24 ^ byte]
    return total


def _table_entry(index: int) -> int:
    entry = index << 24
    for _ in range(8):
        entry = (entry << 1 ^ (0x04C11DB7 if entry & 0x80000000 else 0)) & 0xFFFFFFFF
    return entry


_TABLE = tuple(map(_table_entry, range(256)))

BOUNDARY = b"a7f3c1"
TOKENS = (b"\r\n", b"\n", b"--", b"\r\n--" + BOUNDARY, b"--" + BOUNDARY + b"--", b'"', b";", b"\0", b"=", b"\xff\xfe")
HEADERS = (
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=other",
    b'multipart/form-data; boundary="a7f3c1',
    b"multipart/form-data; boundary=" + b"x" * 300,
    b"multipart/form-data; boundary=a7f3c1; charset=no-such",
    b"multipart/form-data; charset=utf-16; boundary=a7f3c1",
    b"multipart/form-data; boundary=a7f3c1; boundary=b",
    b"multipart/form-data; boundary=\xff\xfe",
    b"multipart/form-datax; boundary=a7f3c1",
    b"application/x-www-form-urlencoded",
    b"audio/wav",
    b"",
)
VALUES = (
    b"",
    b"json",
    b"verbose_json",
    b"1e400",
    b"nan",
    b"-0",
    b"true",
    b"\xff\xfe\xfd",
    b"\0",
    b"<|endoftext|>",
    b"it\r\n",
    b"x" * 5_000,
    "\u202e\ud7ff\U0001f600".encode(),
)
FIELDS = (
    b"language",
    b"prompt",
    b"temperature",
    b"response_format",
    b"timestamp_granularities[]",
    b"stream",
    b"model",
    b"file",
    b"chunking_strategy",
    b"language_per_window",
    b"",
    b"\xff",
    b"[",
)


def form(number: int) -> tuple[bytes, bytes]:
    """Return the content type and the body of the form with this seed number.

    Half are whole forms around a damaged file; of the others the form itself is damaged.
    """
    chance = random.Random(number)
    audio = damaged(number)[1]
    if number % 2:
        return HEADERS[5].partition(b"; charset")[0], _body([(b"model", b"fake")], audio)
    fields = [(b"model", b"fake")][: chance.randrange(8)]
    fields += [(chance.choice(FIELDS), chance.choice(VALUES)) for _ in range(chance.choice((0, 1, 3, 40)))]
    chance.shuffle(fields)
    body = bytearray(_body(fields, audio[:2_000]))
    for _ in range(chance.choice((0, 1, 2, 5))):
        _break(body, chance)
    header = chance.choice(HEADERS) if chance.random() < 0.3 else b"multipart/form-data; boundary=" + BOUNDARY
    return header, bytes(body)


def _body(fields: list[tuple[bytes, bytes]], audio: bytes) -> bytes:
    parts = [b'Content-Disposition: form-data; name="%b"\r\n\r\n%b' % field for field in fields]
    head = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    whole = b"".join(b"--%b\r\n%b\r\n" % (BOUNDARY, part) for part in [*parts, head + audio])
    return whole + b"--" + BOUNDARY + b"--\r\n"


def _break(body: bytearray, chance: random.Random) -> None:
    """Damage the form around the file: delimiters, headers of parts, their names."""
    places = [at for token in TOKENS[:7] for at in _positions(body, token)] or [0]
    at = max(chance.choice(places) + chance.randrange(-2, 12), 0)
    fault = chance.randrange(5)
    if fault == 0:
        body[at:at] = chance.choice(TOKENS)
    elif fault == 1:
        del body[at : at + chance.choice((1, 2, 30))]
    elif fault == 2:
        body[at : at + 1] = chance.randbytes(1)
    elif fault == 3:
        del body[at:]
    else:
        body[at:at] = b"X" * chance.choice((1, 100, 20_000))
