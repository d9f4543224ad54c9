from __future__ import annotations

from pathlib import Path

import pytest

from asr.data.sources import SourceConfig
from asr.errors import UserError
from train.evaluation.options import context_of, given_rows


def test_a_context_is_the_model_s_own_unless_asked_for() -> None:
    assert [context_of(asked) for asked in ("auto", "full", "short")] == [None, "full", "short"]
    with pytest.raises(UserError, match="--context medium"):
        context_of("medium")


def test_rows_that_cannot_be_read_are_counted_and_alone_they_are_a_mistake(tmp_path: Path) -> None:
    table = tmp_path / "rows.jsonl"
    unread = '{"id": "b", "audio": "b.wav", "text": NaN}'
    table.write_text('{"id": "a", "audio": "a.wav", "text": "ciao"}\n' + unread)
    found = given_rows(SourceConfig(source=str(table)))
    assert ([row.id for row in found.utterances], [row.id for row in found.unread], found.count) == (["a"], ["b"], 2)
    table.write_text(unread)
    with pytest.raises(UserError, match="none of 1 rows can be evaluated, the first: b: not_text"):
        given_rows(SourceConfig(source=str(table)))
