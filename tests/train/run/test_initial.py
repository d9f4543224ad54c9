from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from train.config import TrainConfig
from train.run.initial import initial_model, transcripts


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    rows = [{"audio_filepath": "a.wav", "text": "Due più due", "duration": 1.0, "id": str(i)} for i in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(manifest: Path | str, *settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, ["base=builtin:tiny.en", f"data.train={manifest}", *settings]).value


def test_a_base_starts_as_it_is_and_its_data_is_not_read() -> None:
    assert initial_model(config("/nowhere.jsonl")).head == ()


def test_a_new_head_is_made_for_the_training_transcripts(manifest: Path) -> None:
    initial = initial_model(config(manifest, "head=ctc", "ctc.casing=lower"))
    assert "ù" in json.loads(dict(initial.head)["vocab.json"])
    checkpoint = initial.checkpoint()
    assert checkpoint.folder != checkpoint.weights
    assert initial == initial_model(config(manifest, "head=ctc", "ctc.casing=lower"))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["ctc.casing=lower"], r"ctc\.casing is not for builtin:tiny\.en, which has no CTC head"),
        (["head=ctc", "packing.window_s=30", "packing.timestamp_share=0.1"], r"packing\.timestamp_share is not for a"),
        (["head=ctc", "packing=30s", "packing.previous_text_share=0.5"], r"packing\.previous_text_share"),
    ],
)
def test_a_key_of_the_other_family_is_refused_by_name(settings: list[str], key: str, manifest: Path) -> None:
    with pytest.raises(UserError, match=key):
        initial_model(config(manifest, *settings))


def test_keys_that_say_what_is_so_anyway_are_no_mistake(manifest: Path) -> None:
    assert initial_model(config(manifest, "ctc.casing=keep")).head == ()


def test_a_stream_has_no_vocabulary() -> None:
    streamed = config('{"source": "hf:owner/name", "streaming": true}', "head=ctc")
    with pytest.raises(UserError, match="is a stream, and the vocabulary needs all of its transcripts"):
        list(transcripts(streamed.data))
