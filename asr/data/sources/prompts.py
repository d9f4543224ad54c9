"""Real speech without a hub: the telephone prompts of Debian's asterisk-core-sounds packages and their transcripts."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from asr.config import suggestion
from asr.data.sources.config import SourceConfig
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance

PREFIX = "prompts:"
LANGUAGES = ("en", "es", "fr", "it", "ru")
OWN_SPEECH = "or use your own speech: --manifest FILE"
DOWNLOAD_TIMEOUT_S = 1800

# Tones whose transcripts describe the sound in words ("un suono di beep") in some of the languages.
TONES = frozenset({"beep", "beeperr", "confbridge-join", "confbridge-leave"})


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of ``prompts:LANGUAGE``, downloaded into ``cache`` once. Raises UserError as ``fetch`` does."""
    language = config.source.removeprefix(PREFIX)
    good, bad = utterances(language, fetch(language, cache))
    yield from (replace(row, language=config.language or row.language) for row in good)
    yield from bad


def fetch(language: str, cache: Path) -> Path:
    """Return the folder under ``cache`` with both packages of ``language`` unpacked, downloading them at most once.

    About 13 MB through ``apt-get download``, which needs no root. It appears under its name only when it is whole.
    Raises UserError that says what is missing: apt-get, its package lists, or the network.
    """
    if language not in LANGUAGES:
        hint = suggestion(language, LANGUAGES)
        raise UserError(f"no prompts in '{language}': there are {', '.join(LANGUAGES)}", hint or OWN_SPEECH)
    folder = cache / "prompts" / language
    if folder.is_dir():
        return folder
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise UserError(f"the prompts come as Debian packages, and {tool} is not on this machine", OWN_SPEECH)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{language}.", dir=folder.parent) as temporary:
        contents = Path(temporary, "contents")
        contents.mkdir()
        _download([f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-g722"], Path(temporary))
        for package in sorted(Path(temporary).glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package), str(contents)], Path(temporary))
        _transcripts_file(language, contents)
        _sounds_folder(language, contents)
        try:
            contents.rename(folder)
        except OSError:  # another process was faster, and what it put there is as whole
            if not folder.is_dir():
                raise
    return folder


def utterances(language: str, folder: Path) -> tuple[list[Utterance], list[Quarantined]]:
    """Pair the transcripts in an unpacked ``folder`` with their clips (raw 16 kHz G.722).

    Rows that cannot be trusted are returned with one of the reasons duplicate_name, merged_lines, no_speech,
    annotated, lost_letters, no_transcript, missing_audio. Raises UserError if the folder does not hold the packages.
    """
    sounds = _sounds_folder(language, folder)
    audio = {path.relative_to(sounds).with_suffix("").as_posix(): path for path in sorted(sounds.rglob("*.g722"))}
    lines = transcripts(gzip.decompress(_transcripts_file(language, folder).read_bytes()).decode("utf-8-sig"))
    occurrences = Counter(name for name, _ in lines)
    names = frozenset(audio) | frozenset(occurrences)
    good: list[Utterance] = []
    bad: list[Quarantined] = []
    seen: set[str] = set()
    for name, text in lines:
        file = name if name in audio else name.lower()  # the Italian list has letters/O, the package letters/o
        seen.add(file)
        if occurrences[name] > 1:
            bad.append(Quarantined(name, "duplicate_name", text))
        elif reason := fault(name, text, names):
            bad.append(Quarantined(name, reason, text))
        elif file not in audio:
            bad.append(Quarantined(name, "missing_audio", f"no {name}.g722"))
        else:
            speaker = sounds.name
            good.append(Utterance(name, str(audio[file]), clean(text), language=language, speaker=speaker))
    bad += [Quarantined(name, "no_transcript", f"{name}.g722 has no line") for name in sorted(set(audio) - seen)]
    return good, bad


def transcripts(text: str) -> list[tuple[str, str]]:
    """Return (name, transcript) of each ``name: transcript`` line; ``;`` begins a comment line."""
    rows = []
    for line in text.split("\n"):
        name, colon, transcript = line.partition(":")
        if colon and not line.startswith(";"):
            rows.append((name.strip(), transcript.strip()))
    return rows


def fault(name: str, text: str, names: frozenset[str]) -> str:
    """Return why a transcript is not what the clip says, or "". ``names`` are those of all clips."""
    if name in TONES or name.startswith("silence/") or re.fullmatch(r"[\[(<][^\])>]*[\])>]", text):
        return "no_speech"
    if any(word in names for word in re.findall(r"(\S+): ", text)):
        return "merged_lines"
    if re.search(r"[\[\](){}<>]", text):
        return "annotated"
    if _lost_letter(text):
        return "lost_letters"
    return "" if any(map(str.isalnum, text)) else "no_transcript"


def clean(text: str) -> str:
    """Return ``text`` with single spaces and without the dots that mark a prompt as half of a sentence.

    The clips go on in another clip ("Ci sono attualmente..."): nothing is spoken there, least of all a full stop.
    """
    text = " ".join(text.split())
    if text.count('"') == 1:  # several French lines end in half of a pair
        text = text.replace('"', "")
    return re.sub(r"^(\.{2,}|…)[\s.…]*|[\s,]*(\.{2,}|…|::)[\s.…]*$", "", text)


def _lost_letter(text: str) -> bool:
    """Return whether a ``?`` stands for a letter an encoding lost: it does not end a word, or is one ("sar? detto").

    At the end of a text, or before a capital, it is a real question mark ("Login non corretta. Casella di posta?").
    """
    return "\ufffd" in text or any(
        rest.lstrip()[:1].islower() or rest[0].isalnum() or (before[-1:].isspace() and rest.strip())
        for before, rest in ((text[: m.start()], text[m.end() :]) for m in re.finditer(r"\?(?=.)", text))
    )


def _transcripts_file(language: str, folder: Path) -> Path:
    path = folder / f"usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz"
    if not path.is_file():
        raise UserError(f"{folder}: no transcripts in the package asterisk-core-sounds-{language}", OWN_SPEECH)
    return path


def _sounds_folder(language: str, folder: Path) -> Path:
    voices = sorted((folder / "usr/share/asterisk/sounds").glob(f"{language}_*"))
    if not voices:
        raise UserError(f"{folder}: no sounds in the package asterisk-core-sounds-{language}-g722", OWN_SPEECH)
    return voices[0]


def _download(packages: list[str], folder: Path) -> None:
    command = ["apt-get", "download", *packages]
    failure = _run(command, folder, check=False)
    if failure and "Unable to locate package" in failure:  # the package lists of a fresh container are empty
        if os.geteuid() != 0:
            raise UserError("apt-get has no package lists that name the prompts", "run: sudo apt-get update")
        _run(["apt-get", "update"], folder)
        failure = _run(command, folder, check=False)
    if failure:
        raise UserError(f"{' '.join(command)} failed: {failure}", f"check the network and apt's sources, {OWN_SPEECH}")


def _run(command: list[str], folder: Path, check: bool = True) -> str:
    """Run a command in ``folder``; return the last error it printed if it failed, else ""."""
    environment = os.environ | {"LC_ALL": "C"}  # its messages are read above
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{' '.join(command)}: no end after {DOWNLOAD_TIMEOUT_S} s", OWN_SPEECH) from None
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-1:]
    failure = errors[-1] if errors else f"exit code {done.returncode}"
    if check:
        raise UserError(f"{' '.join(command)} failed: {failure}", OWN_SPEECH)
    return failure
