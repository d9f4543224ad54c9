from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from asr.data.sources import SourceConfig, is_stream, reader, rows
from asr.data.sources.config import Format
from asr.errors import UserError
from asr.utterance import Utterance


def test_every_format_has_a_reader() -> None:
    assert set(get_args(Format)) == {"auto", *reader._READERS}


@pytest.mark.medium
def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "text": "uno"}\n' * 30_000 + "perch\xe9\n", encoding="latin-1")
    found = rows(SourceConfig(source=str(path)), tmp_path)
    assert next(found) == Utterance("a.wav", str(tmp_path / "a.wav"), "uno")
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be read as UTF-8"):
        list(found)


@pytest.mark.parametrize("setting", [{"delimiter": ";"}, {"header": False}])
def test_only_tables_have_delimiters_and_headers(tmp_path: Path, setting: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text('{"audio": "a.wav"}\n')
    with pytest.raises(UserError, match=r"are for tables, this is manifest \(leave them out\)"):
        rows(SourceConfig(source=str(tmp_path / "a.jsonl"), **setting), tmp_path)


def test_only_hugging_face_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,text\na.wav,uno\n")
    config = SourceConfig(source=str(tmp_path / "a.csv"), streaming=True)
    assert is_stream(config)
    with pytest.raises(UserError, match="leave streaming out"):
        rows(config, tmp_path)


def test_prompts_and_their_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("asr.data.sources.prompts.fetch", lambda language, cache: asked.append(cache) or cache)
    monkeypatch.setattr(
        "asr.data.sources.prompts.utterances",
        lambda language, folder: ([Utterance("a", "b", "c", language=language)], []),
    )
    (row,) = rows(SourceConfig(source="prompts:it", language="es"), tmp_path)
    assert row == Utterance("a", "b", "c", language="es")
    assert asked == [tmp_path]
