"""Finds the files of a table that names its clips without their folder, or without their suffix, as LJSpeech does."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from asr.audio.filenames import is_audio
from asr.errors import DataError
from asr.io import storage
from asr.io.roots import Roots

FOLDERS = ("", "wavs/", "wav/", "clips/", "audio/")
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
TRIED = 3  # names


def template(roots: Roots, names: Iterable[str]) -> str:
    """Return a clip's file below the roots' folder, with ``{}`` for its name in the table; ``""`` for just that name.

    Told by the first of the first few names for which some way gives a file that exists.
    """
    plain = (name for name in names if name and "://" not in name and not name.startswith("/"))
    for name in islice(plain, TRIED):
        endings = ("",) if is_audio(name) else ("", *SUFFIXES)
        for way in (f"{where}{{}}{ending}" for where in FOLDERS for ending in endings):
            if _is_file(roots, way.replace("{}", name)):
                return way if way != "{}" else ""
    return ""


def located(template: str, name: str) -> str:
    """Return the name of a clip's file."""
    if not template or "://" in name or name.startswith("/"):
        return name
    return f"{template.partition('{}')[0]}{name}" if is_audio(name) else template.replace("{}", name)


def _is_file(roots: Roots, name: str) -> bool:
    try:
        return storage.kind(roots.address(name)) == "file"
    except (DataError, ValueError):  # a name of somewhere else, which is asked for nothing; a NUL in it
        return False
