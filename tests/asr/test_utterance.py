from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from asr.data.manifest import write_quarantine
from asr.utterance import MAX_TOLD, Quarantined, Utterance
from tests.manifests import read_quarantine


def test_only_id_and_audio_are_needed() -> None:
    utterance = Utterance("a", "a.wav")
    assert (utterance.text, utterance.start_s, utterance.end_s, utterance.language) == ("", 0.0, None, None)


def test_no_two_utterances_share_their_meta() -> None:
    assert Utterance("a", b"").meta is not Utterance("b", b"").meta


@pytest.mark.parametrize("value", [Utterance("a", b"RIFF", "ciao", 1.5, "it", meta={"n": 1}), Quarantined("a", "b")])
def test_it_crosses_processes_unchanged(value: Utterance | Quarantined) -> None:
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("value", [Utterance("a", "a.wav"), Quarantined("a", "b")])
def test_it_is_not_changed_in_place(value: Utterance | Quarantined) -> None:
    with pytest.raises(FrozenInstanceError):
        value.id = "other"  # type: ignore[misc]
    assert not hasattr(value, "__dict__"), "a misspelt attribute must not be taken"


def test_what_is_told_of_a_hostile_row_can_be_written(tmp_path: Path) -> None:
    told = Quarantined("\udcff.wav", "malformed_row", "x" * 100_000_000)
    assert (told.id, len(told.detail)) == ("\\udcff.wav", MAX_TOLD)
    write_quarantine(tmp_path / "faults.parquet", [told])
    assert read_quarantine(tmp_path / "faults.parquet") == [told]
