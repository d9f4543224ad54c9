"""The verb ``align``, called as the command line calls it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from asr.config import resolve
from asr.data.manifest import read_manifest
from asr.errors import UserError
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.manifests import read_quarantine, write_beside
from train.alignment.cli import align
from train.config import TrainConfig
from train.run.initial import transcripts


@pytest.fixture
def manifest(tmp_path: Path, english_clips: list[Utterance]) -> Path:
    """Two good rows, and two that are not."""
    path = tmp_path / "mine.jsonl"
    write_beside(path, english_clips[:2])
    rows = ['{"id": "nan", "audio": "a.flac", "text": NaN}', '{"id": "wordless", "audio": "b.flac", "text": ""}']
    path.write_text("\n".join([path.read_text(encoding="utf-8").strip(), *rows]))
    return path


@pytest.mark.medium
def test_a_manifest_is_written_again_with_words(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.write(tmp_path / "model", "wav2vec2-base-960h")
    monkeypatch.setattr("asr.models.family.best_device", lambda: "cpu")
    out = tmp_path / "out.jsonl"
    align(str(model), str(manifest), out, language="en", as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])  # deepspeed, where it is, tells of itself before
    assert (told["clips"], told["recordings"], told["segments"]) == (2, 0, 0)
    assert told["quarantined"] == {"no_transcript": 1, "not_text": 1}
    for row in read_manifest(out):
        assert row.language == "en"
        assert " ".join(word["text"] for word in row.meta["words"]) == row.text
    assert {one.id for one in read_quarantine(Path(told["quarantine"]))} == {"nan", "wordless"}
    align(str(model), str(out), tmp_path / "again")  # and its result can be read
    shown = capsys.readouterr().out
    assert "clips with times of words: 2" in shown
    words = shlex.split(shown.splitlines()[-1].rpartition(" with ")[2])
    config = resolve(TrainConfig, None, ["base=none", *words]).value
    assert len(list(transcripts(config.data))) == 2  # what it says can be typed, and reads what it wrote


def test_mistakes_are_told_in_one_line_each(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        align(str(tmp_path / "nothing"), str(manifest), tmp_path / "out")
    with pytest.raises(UserError, match="that is the manifest that is read"):
        align("builtin:base", str(manifest), manifest)
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        align("builtin:base", str(tmp_path / "gone.jsonl"), tmp_path / "out")
