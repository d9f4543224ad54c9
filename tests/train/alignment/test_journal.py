from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from asr.sound import SoundChoice
from asr.utterance import Quarantined, Utterance
from train.alignment.journal import DoneRow, Journal

ROW = Utterance("a", "/a.flac", "città\u2028", 1.0, "it", sound=SoundChoice(1, "left"))
OTHER = replace(ROW, text="other")
DONE = DoneRow((replace(ROW, meta={"words": [{"start": 0.0}]}),), (Quarantined("b", "silent", "why"),), 1.5, False)


def test_what_is_done_is_known_after_an_interruption(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = Journal(path, ["model", 20.0])
    assert first.done(ROW) is None
    first.add(ROW, DONE)
    first.add(OTHER, replace(DONE, rows=()))
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"of": "ab')  # killed while it wrote
    second = Journal(path, ["model", 20.0])
    assert second.done(ROW) == DONE
    assert second.done(OTHER) == replace(DONE, rows=())
    assert second.done(replace(ROW, start_s=1.0)) is None
    second.add(replace(ROW, start_s=1.0), DONE)
    assert Journal(path, ["model", 20.0]).done(replace(ROW, start_s=1.0)) == DONE
    second.remove()
    assert not path.exists()


def test_with_another_model_or_limit_nothing_is_done(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, ["model", 20.0]).add(ROW, DONE)
    assert Journal(path, ["model", 10.0]).done(ROW) is None
    path.write_text("nonsense")
    assert Journal(path, ["model", 20.0]).done(ROW) is None
