from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from asr.data.sources import prompts
from asr.errors import UserError

VOICE = "usr/share/asterisk/sounds/it_IT_m_Carlo"
TEXTS = "usr/share/doc/asterisk-core-sounds-it/core-sounds-it.txt.gz"


def package(folder: Path, text: str, clips: list[str]) -> Path:
    """Lay out ``folder`` as the two unpacked packages do."""
    for clip in clips:
        path = folder / VOICE / f"{clip}.g722"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0" * 800)
    (folder / TEXTS).parent.mkdir(parents=True, exist_ok=True)
    (folder / TEXTS).write_bytes(gzip.compress(text.encode("utf-8-sig")))
    return folder


NAMES = frozenset({"vm-then-pound", "confbridge-mute-in", "digits/1", "number"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Login non corretta. Casella di posta?", ""),
        ("Casella di posta? Prego digitare.", ""),
        ("Perché? È vero.", ""),
        ("En que carpeta desea guardar el mensaje ?", ""),
        ('"Casella di posta?"', ""),
        ("Opzioni disponibili: prema 1. Numero: 5", ""),
        ("La chiamata non pu? essere completata cos? come composta.", "lost_letters"),
        ("La conferenza ? piena.", "lost_letters"),
        ("Se questo ? corretto, premi ...", "lost_letters"),
        ("Il valore ? 5", "lost_letters"),
        ("C'? posta", "lost_letters"),
        ("Ment?re", "lost_letters"),
        ("pi\ufffd tardi", "lost_letters"),
        ("[toni ascendenti]", "no_speech"),
        ("(10 secondi di silenzio)", "no_speech"),
        ("<beep ascending>", "no_speech"),
        ("Il [suo] messaggio è stato salvato.", "annotated"),
        ("[!] punto [esclamativo]", "annotated"),
        ("H.323 (in inglese)", "annotated"),
        ("stato eliminato vm-then-pound: poi premere cancelletto", "merged_lines"),
        ("la voce. confbridge-mute-in: Per disattivare (o no)", "merged_lines"),
        ("", "no_transcript"),
        ("...", "no_transcript"),
    ],
)
def test_faults(text: str, reason: str) -> None:
    assert prompts.fault("vm-x", text, NAMES) == reason


@pytest.mark.parametrize("name", ["beep", "beeperr", "confbridge-join", "silence/10"])
def test_tones_described_in_words_are_no_speech(name: str) -> None:
    assert prompts.fault(name, "un suono di beep", NAMES) == "no_speech"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Ci sono attualmente…", "Ci sono attualmente"),
        ("... per ...", "per"),
        ("...ha lasciato  la conferenza.", "ha lasciato la conferenza."),
        ("Premere ... e attendere.", "Premere ... e attendere."),
        ("Номер не отвечает..", "Номер не отвечает"),
        ("che si è presentato come::", "che si è presentato come"),
        ('Pour activer le mode discrétion, ..."', "Pour activer le mode discrétion"),
        ('usare il comando "dial".', 'usare il comando "dial".'),
        ("Grazie.", "Grazie."),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert prompts.clean(text) == cleaned


def test_rows_of_a_package(tmp_path: Path) -> None:
    text = (
        "; Core Asterisk Sounds: a comment\n\nactivated: Attivato.\ndigits/1: uno\nletters/O: O\n"
        "twice: uno\ntwice: due\nno-clip: Ciao\nconf-full: La conferenza ? piena.\nbeep: un suono beep\nempty:\n"
        "time: Sono le 5: presto\n"
    )
    clips = ["activated", "digits/1", "letters/o", "twice", "conf-full", "beep", "empty", "time", "digits/a"]
    good, bad = prompts.utterances("it", package(tmp_path, text, clips))
    assert {u.id: u.text for u in good} == {
        "activated": "Attivato.",
        "digits/1": "uno",
        "letters/O": "O",
        "time": "Sono le 5: presto",
    }
    assert all(u.language == "it" and u.speaker == "it_IT_m_Carlo" and Path(str(u.audio)).is_file() for u in good)
    assert [(q.id, q.reason) for q in bad] == [
        ("twice", "duplicate_name"),
        ("twice", "duplicate_name"),
        ("no-clip", "missing_audio"),
        ("conf-full", "lost_letters"),
        ("beep", "no_speech"),
        ("empty", "no_transcript"),
        ("digits/a", "no_transcript"),
    ]


def test_a_folder_without_the_packages(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sounds"):
        prompts.utterances("it", tmp_path)


class Machine:
    """A PATH with nothing but our own ``apt-get`` and ``dpkg-deb``, which log what they were asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.log, self.served = folder / "bin", folder / "log", folder / "served"
        self.bin.mkdir()
        self.served.mkdir()
        self.cache = folder / "cache"
        self.tools = {tool: shutil.which(tool) for tool in ("cp", "tar", "touch")}
        monkeypatch.setenv("PATH", str(self.bin))

    def install(self, name: str, script: str) -> None:
        lines = [f'{tool}() {{ {path} "$@"; }}' for tool, path in self.tools.items()]
        path = self.bin / name
        path.write_text("\n".join(["#!/bin/sh", *lines, f'echo "{name} $@" >> {self.log}', script, ""]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def serve(self, folder: Path) -> None:
        """Answer downloads with archives of ``folder``: one for the transcripts, one for the sounds."""
        for name, part in {"asterisk-core-sounds-it": "usr/share/doc", "asterisk-core-sounds-it-g722": VOICE}.items():
            command = [str(self.tools["tar"]), "-cf", str(self.served / f"{name}_1.deb"), "-C", str(folder), part]
            subprocess.run(command, check=True)
        self.install("dpkg-deb", 'tar -xf "$2" -C "$3"')

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


DOWNLOAD = "apt-get download asterisk-core-sounds-it asterisk-core-sounds-it-g722"
NO_LISTS = 'echo "E: Unable to locate package asterisk-core-sounds-it" >&2; exit 100'
NO_NETWORK = (
    'echo "Err:1 ..."; echo "W: unsandboxed" >&2; echo "E: Failed to fetch it: Could not connect" >&2; exit 100'
)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def contents(tmp_path: Path) -> Path:
    return package(tmp_path / "contents", "grazie: Grazie.\n", ["grazie"])


def failure(machine: Machine) -> str:
    with pytest.raises(UserError) as caught:
        prompts.fetch("it", machine.cache)
    assert "\n" not in str(caught.value)
    folder = machine.cache / "prompts"
    assert not folder.exists() or os.listdir(folder) == []
    return str(caught.value)


def test_fetch_once(machine: Machine, contents: Path) -> None:
    machine.serve(contents)
    machine.install("apt-get", f"cp {machine.served}/*.deb .")
    folder = prompts.fetch("it", machine.cache)
    good, bad = prompts.utterances("it", folder)
    assert ([u.text for u in good], bad) == (["Grazie."], [])
    assert prompts.fetch("it", machine.cache) == folder
    assert machine.calls()[0] == DOWNLOAD
    assert len(machine.calls()) == 3
    assert os.listdir(machine.cache / "prompts") == ["it"]


def test_a_partial_download_is_never_taken_for_whole(machine: Machine, contents: Path) -> None:
    machine.serve(contents)
    (machine.served / "asterisk-core-sounds-it-g722_1.deb").unlink()
    machine.install("apt-get", f"cp {machine.served}/*.deb .")
    assert "no sounds" in failure(machine)
    machine.serve(contents)
    assert prompts.utterances("it", prompts.fetch("it", machine.cache))[0]


def test_without_lists_root_updates_once(machine: Machine, contents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.serve(contents)
    lists = machine.bin / "lists"
    machine.install(
        "apt-get",
        f'if [ "$1" = update ]; then touch {lists}; exit 0; fi\n'
        f"if [ ! -e {lists} ]; then {NO_LISTS}; fi\ncp {machine.served}/*.deb .",
    )
    assert prompts.fetch("it", machine.cache).is_dir()
    assert machine.calls()[:3] == [DOWNLOAD, "apt-get update", DOWNLOAD]


def test_an_update_that_does_not_help_is_not_repeated(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.install("dpkg-deb", "exit 0")
    machine.install("apt-get", f'[ "$1" = update ] && exit 0\n{NO_LISTS}')
    assert "Unable to locate package" in failure(machine)
    assert machine.calls() == [DOWNLOAD, "apt-get update", DOWNLOAD]


def test_without_lists_a_user_is_told_the_command(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.install("dpkg-deb", "exit 0")
    machine.install("apt-get", NO_LISTS)
    assert "sudo apt-get update" in failure(machine)
    assert machine.calls() == [DOWNLOAD]


def test_without_network(machine: Machine) -> None:
    machine.install("dpkg-deb", "exit 0")
    machine.install("apt-get", NO_NETWORK)
    text = failure(machine)
    assert "Could not connect" in text
    assert "--manifest FILE" in text


def test_without_apt(machine: Machine) -> None:
    text = failure(machine)
    assert "apt-get is not on this machine" in text
    assert "--manifest FILE" in text


def test_a_broken_package(machine: Machine) -> None:
    machine.install("apt-get", ": > broken.deb")
    machine.install("dpkg-deb", 'echo "dpkg-deb: error: not a Debian format archive" >&2; exit 2')
    assert "not a Debian format archive" in failure(machine)


def test_unknown_language(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="en, es, fr, it, ru"):
        prompts.fetch("ita", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    shutil.which("dpkg-deb") is None, reason="dpkg-deb exists on Debian only; the others use tar instead"
)
def test_a_real_deb_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Path) -> None:
    control = contents / "DEBIAN/control"
    control.parent.mkdir()
    control.write_text(
        "Package: asterisk-core-sounds-it\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    )
    subprocess.run(["dpkg-deb", "-b", str(contents), str(tmp_path / "it.deb")], check=True, capture_output=True)
    fake = tmp_path / "bin/apt-get"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ncp {tmp_path}/it.deb .\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    assert prompts.utterances("it", prompts.fetch("it", tmp_path / "cache"))[0]
