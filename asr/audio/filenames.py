"""Tells by its name whether a file is audio, or what operating systems and authors leave beside it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import PurePosixPath

# Suffixes in use for formats that FFmpeg reads but lists under no such name.
_ALSO_USED = (
    *("3ga", "3gpp", "awb", "bw64", "bwf", "divx", "dsf", "f4a", "f4b", "m4p", "m4r", "mp+", "mp1", "mpga"),
    *("ogm", "ogx", "qcp", "qt", "rf64", "snd", "spx", "tak", "wave", "weba"),
)
# FFmpeg's other names of what it writes: for these formats its readers list no suffix, its writers do.
_WRITERS = (
    *("3gp", "3g2", "adts", "aiff", "amr", "asf", "au", "avi", "caf", "f4v", "gsm", "ipod", "ircam", "latm", "mov"),
    *("mp2", "mp4", "mpeg", "mpegts", "oga", "ogg", "ogv", "opus", "sox", "spx", "tta", "voc", "vob", "w64", "wav"),
    *("webm", "wv"),
)
# What its readers of films and music also open, but holds no sound: pictures, subtitles, playlists.
_NO_SOUND = frozenset({"avif", "heic", "heif", "ism", "mks"})

# What to tell a person who has none.
HOW_TOLD = "audio is told by its suffix: .wav, .mp3, .m4a, .mkv and all others of formats that FFmpeg reads"

_LITTER = re.compile(
    r"\..*|__MACOSX|PaxHeaders?(\..*)?|@eaDir|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r?", re.I | re.S
)
_ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|changes|citation|authors|credits|contents|manifest|metadata|index"
    r"|checksums?|md5sums?|sha\d+sums?|transcripts?|speakers?|dataset_infos?|speaker_info|about|__index__)(\..*)?",
    re.IGNORECASE | re.DOTALL,
)
_DOCUMENTS = re.compile(
    r".*\.(md|rst|html?|pdf|csv|tsv|jsonl?|ndjson|ya?ml|toml|xml|ini|cfg|log|doc|docx|odt|rtf|xlsx?|ods|py|sh|ipynb"
    r"|md5|sha1|sha256|lock|bib|lab|textgrid|eaf|trs|ctm|stm|rttm|uem|srt|vtt|lrc|ass|sub|cue|m3u8?|pls|nfo|cha"
    r"|phn|wrd|lst|scp|trans|mlf|jpe?g|png|gif|webp|svg|npy|npz|pt|parquet)",
    re.IGNORECASE | re.DOTALL,
)


@cache
def audio_suffixes() -> frozenset[str]:
    """Return the suffixes (``.wav``) of what ``asr.audio.container`` opens, as FFmpeg lists them: sound and films."""
    import av  # 0.1 s that only those pay who look into folders

    from asr.audio.container import DEMUXERS

    found = set(_ALSO_USED)
    for names, mode in ((DEMUXERS.split(","), "r"), (_WRITERS, "w")):
        for name in names:
            try:
                found |= av.ContainerFormat(name, mode).extensions
            except ValueError:  # not in this build of FFmpeg
                continue
    return frozenset(f".{name.lower()}" for name in found - _NO_SOUND)


def suffix(name: str) -> str:
    """Return a name's suffix in lower case, with its dot; ``""`` where there is none."""
    return PurePosixPath(name).suffix.lower()


def is_audio(name: str) -> bool:
    """Return whether a file is taken for audio by its name. The decoder finds out what is really in it."""
    return suffix(name) in audio_suffixes() and not is_litter(name)


def is_litter(name: str) -> bool:
    """Return whether a file is hidden or an operating system's own, as ``._a.wav`` and ``__MACOSX/`` in a Mac's zip."""
    return any(_LITTER.fullmatch(part) for part in name.removeprefix("./").split("/") if part not in (".", ".."))


def is_about_all(name: str) -> bool:
    """Return whether a file describes a whole folder, not one clip: ``README.txt``, ``LICENSE``, ``metadata.json``."""
    return _ABOUT.fullmatch(name.rpartition("/")[2]) is not None


def is_document(name: str) -> bool:
    """Return whether a non-audio file is usual beside audio: a licence, a table, alignments, a spectrum's picture."""
    return is_about_all(name) or _DOCUMENTS.fullmatch(name.rpartition("/")[2]) is not None
