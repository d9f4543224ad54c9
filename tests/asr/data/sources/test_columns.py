from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from asr.data.sources import SourceConfig
from asr.data.sources.columns import FIRST_ROWS, Chooser, choose, utterance
from asr.errors import UserError
from asr.utterance import Quarantined, Utterance


def made(row: Mapping[str, Any], audio: str | None = None, **settings: Any) -> Utterance | Quarantined:
    config = SourceConfig(source="x", **settings)
    return utterance(row, choose(config, list(row), "x.csv", ()), "row 1", audio, "/data")


def test_usual_names() -> None:
    row = {"Path": "a.wav", "Sentence": "ciao", "client_id": 7, "locale": "it-IT", "duration": "1.5", "id": "k"}
    assert made(row) == Utterance("k", "/data/a.wav", "ciao", 1.5, "it", "7")


def test_a_named_column_is_taken_from_the_guesses() -> None:
    row = {"text": "raw", "normal": "clean", "audio": "a.wav"}
    assert made(row, columns={"text": "normal"}) == Utterance(
        "row 1", "/data/a.wav", "clean", meta={"source_text": "raw"}
    )
    swapped = made(row, columns={"id": "text", "text": "normal"})
    assert swapped == Utterance("raw", "/data/a.wav", "clean")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [({"id": 7}, "row 1"), ({"id": "7"}, "7"), ({"id": ""}, "row 1"), ({"start": 2, "duration": 1}, "row 1@2")],
)
def test_ids(cell: dict[str, Any], expected: str) -> None:
    assert made({"audio": "a.wav", "text": "x", **cell}).id == expected


@pytest.mark.medium
@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"audio": None}, "missing_audio"),
        ({"audio": ""}, "missing_audio"),
        ({"audio": {"array": [0.1]}}, "missing_audio"),
        ({"language": "Gibberish"}, "unknown_language"),
        ({"duration": "long"}, "bad_number"),
        ({"duration": float("inf")}, "bad_number"),
        ({"duration": -1}, "bad_number"),
        ({"start": 2, "end": 2}, "bad_number"),
        ({"segments": [{"start": 1}]}, "bad_segments"),
        ({"segments": "nothing"}, "bad_segments"),
    ],
)
def test_rows_that_cannot_be_used(cells: dict[str, Any], reason: str) -> None:
    found = made({"audio": "a.wav", "text": "x", **cells})
    assert isinstance(found, Quarantined)
    assert found.reason == reason
    assert found.detail


@pytest.mark.parametrize(
    "cells", [{"": 0}, {"": "a note"}, {"duration": float("nan")}, {"duration": "nan"}, {"language": "auto"}]
)
def test_what_pandas_writes_for_nothing_is_nothing(cells: dict[str, Any]) -> None:
    """A column without a name is its index; every field that has no column was read from it."""
    found = made({"audio": "a.wav", "text": "x", **cells})
    assert isinstance(found, Utterance)
    assert (found.duration_s, found.start_s, found.language, found.speaker) == (None, 0.0, None, None)


def test_any_language_there_is_may_be_spoken() -> None:
    """Whisper refuses those that it has no token for when it is trained or asked; a CTC model spells them all."""
    found = made({"audio": "a.wav", "text": "x", "language": "div"})
    assert isinstance(found, Utterance)
    assert found.language == "dv"


def test_a_given_language_overrides_unknown_ones() -> None:
    found = made({"audio": "a.wav", "text": "x", "language": "dv"}, language="si")
    assert isinstance(found, Utterance)
    assert found.language == "si"


def test_meta_is_what_json_holds() -> None:
    cells = {
        "n": 1,
        "f": 0.5,
        "b": True,
        "s": "x",
        "none": None,
        "empty": "",
        "nan": float("nan"),
        "list": [1],
        "by": b"x",
    }
    found = made({"audio": "a.wav", "sentence": "x", **cells})
    assert isinstance(found, Utterance)
    assert found.meta == {"n": 1, "f": 0.5, "b": True, "s": "x"}


def test_segments_from_a_list_or_from_json() -> None:
    segments = [{"start": 0.0, "end": 1.5, "text": "uno"}]
    for cell in (
        [{"start": 0, "end": 1.5, "text": "uno", "speaker": "A"}],
        '[{"start": 0, "end": 1.5, "text": "uno"}]',
    ):
        found = made({"audio": "a.wav", "text": "x", "turns": cell}, columns={"segments": "turns"})
        assert isinstance(found, Utterance)
        assert found.meta == {"segments": segments}


def test_missing_columns() -> None:
    config = SourceConfig(source="x", columns={"text": "sentense"})
    with pytest.raises(UserError, match=r"x.csv: no column 'sentense' for text: .* path, sentence .*mean 'sentence'"):
        choose(config, ["path", "sentence"], "x.csv", ())
    with pytest.raises(UserError, match="no column for audio: its columns are text"):
        choose(SourceConfig(source="x"), ["text"], "x.csv", ("audio", "text"))


def test_rows_need_not_be_alike() -> None:
    chooser = Chooser(SourceConfig(source="x", columns={"text": "said"}), "x", ("audio", "text"))
    assert chooser.columns(["audio", "said"]).names == {"audio": "audio", "text": "said"}
    # The named column is absent: another text must not slip into its place.
    assert chooser.columns(["wav", "text", "offset"]).names == {"audio": "wav", "start_s": "offset"}
    with pytest.raises(UserError):
        lacking(Chooser(SourceConfig(source="x"), "x", ("audio",)), 1).require()


def lacking(chooser: Chooser, rows: int) -> Chooser:
    for _ in range(rows):
        chooser.columns(["said"])
    return chooser


def test_a_first_row_that_lacks_the_columns_refused_all_the_others() -> None:
    chooser = lacking(Chooser(SourceConfig(source="x"), "x", ("audio",)), FIRST_ROWS - 1)
    assert chooser.columns(["wav", "said"]).names == {"audio": "wav"}
    lacking(chooser, FIRST_ROWS).require()
    Chooser(SourceConfig(source="x"), "x", ("audio",)).require()
    with pytest.raises(UserError, match="no column for audio"):
        lacking(Chooser(SourceConfig(source="x"), "x", ("audio",)), FIRST_ROWS)
    chooser = Chooser(SourceConfig(source="x"), "x", ("audio",))
    lacking(chooser, 2).columns(["clip_file", "said", "who"])
    with pytest.raises(UserError, match="its columns are clip_file, said, who"):
        chooser.require()
