from __future__ import annotations

import subprocess
import sys

import av
import pytest

from asr.audio.container import DEMUXERS
from asr.audio.filenames import audio_suffixes, is_about_all, is_audio, is_document, is_litter, suffix


@pytest.mark.parametrize(
    "name",
    [
        *["a.mov", "a.mkv", "a.avi", "a.3gp", "a.m4b", "a.caf", "a.mpga", "a.mpeg", "a.WAV", "deep/talk_11.02.mp3"],
        *["a.opus", "a.oga", "a.spx", "a.aifc", "a.au", "a.snd", "a.wma", "a.wmv", "a.ac3", "a.dts", "a.mpg", "a.ts"],
        *["a.m4v", "a.3g2", "a.mp2", "a.wv", "a.ape", "a.tta", "a.w64", "a.weba", "a.webm", "a.flv", "a.amr", "a.g722"],
    ],
)
def test_films_and_rare_formats_are_audio_too(name: str) -> None:
    assert is_audio(name)


@pytest.mark.parametrize(
    "name", ["a.txt", "a", "wav", "a.jpg", "a.heic", "a.avif", "a.m3u8", "a.json", "._a.wav", ".a.wav"]
)
def test_other_files_are_not(name: str) -> None:
    assert not is_audio(name)


def test_all_suffixes_of_all_formats_that_are_opened_are_known() -> None:
    """A format added to the decoder is looked for in folders from then on."""
    listed = {f".{each}" for name in DEMUXERS.split(",") if name != "latm" for each in _extensions(name)}
    assert listed - audio_suffixes() == {".avif", ".heic", ".heif", ".ism", ".mks"}


def _extensions(name: str) -> set[str]:
    return {each.lower() for each in av.ContainerFormat(name, "r").extensions}


@pytest.mark.parametrize(
    "name", ["._a.wav", "x/._a.wav", "./._a.wav", "__MACOSX/a.wav", "PaxHeaders.123/a.wav", ".DS_Store", "x/Thumbs.db"]
)
def test_what_systems_leave_behind_is_litter(name: str) -> None:
    assert is_litter(name)


def test_names_that_are_no_litter() -> None:
    assert not any(map(is_litter, ["./a.wav", "../a.wav", "a/b.wav", "a_._b.wav", "MACOSX/a.wav"]))


def test_documents() -> None:
    assert all(map(is_about_all, ["README", "x/LICENSE.txt", "metadata.csv"]))
    assert all(map(is_document, ["README", "a.TextGrid", "a.lab", "a.json", "a.png", "notes.md"]))
    assert not any(map(is_document, ["a.txt", "a.dss", "a", "readme2.txt"]))
    assert (suffix("x/a.B.WaV"), suffix("x.y/a")) == (".wav", "")


def test_an_address_does_not_import_ffmpeg() -> None:
    program = (
        "import sys, asr.io.address, asr.audio.filenames; assert not {'av', 'numpy', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
