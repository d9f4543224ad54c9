from __future__ import annotations

from pathlib import Path

import pytest

from asr.data.sources.locate import located, template
from asr.io.roots import Roots


@pytest.mark.parametrize(
    ("file", "name", "way"),
    [
        ("wavs/LJ001.wav", "LJ001", "wavs/{}.wav"),
        ("clips/a.1.mp3", "a.1", "clips/{}.mp3"),
        ("a.flac", "a", "{}.flac"),
        ("audio/a.wav", "a.wav", "audio/{}"),
        ("a.wav", "a.wav", ""),
        ("record", "record", ""),
    ],
)
def test_the_way_to_a_clip(tmp_path: Path, file: str, name: str, way: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"x")
    assert template(Roots(str(tmp_path)), ["gone", "\0", name]) == way
    assert located(way, name) == (file if way else name)


def test_what_is_nowhere_stays_as_it_is(tmp_path: Path) -> None:
    assert template(Roots(str(tmp_path)), ["", "/etc/hosts", "s3://bucket/a.wav", "gone"]) == ""
    assert located("wavs/{}.wav", "/a/b") == "/a/b"
    assert located("wavs/{}.wav", "a.wav") == "wavs/a.wav"


def test_files_elsewhere_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.wav").write_bytes(b"x")
    assert template(Roots(str(tmp_path / "set")), ["../secret"]) == ""
    assert template(Roots(str(tmp_path / "set"), [str(tmp_path)]), ["../secret"]) == "{}.wav"
