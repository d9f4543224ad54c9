from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from asr.inference.engine import load_engine
from asr.inference.known_model import known_model, only
from asr.models.artifact import complete
from asr.models.checkpoint import Checkpoint
from asr.models.export import Export
from tests.asr.models.ctc import tiny
from tests.asr.models.test_artifact import card


def agree(name: str) -> None:
    """What the files tell is what the loaded model tells."""
    known, info = known_model(name, "m"), load_engine(name, "m", "torch").info
    assert known is not None
    assert (known.name, known.languages, known.language) == ("m", info.languages, info.language)
    assert known.refusals == info.refusals and known.refusals


def test_the_files_of_a_whisper_tell_what_the_loaded_one_does(tiny_en_name: str, random_checkpoint: Path) -> None:
    agree(tiny_en_name)
    assert known_model(tiny_en_name, "m").languages == {"en"}  # type: ignore[union-attr]
    agree(str(random_checkpoint))


def test_the_files_of_a_ctc_model_tell_what_the_loaded_one_does(tmp_path: Path) -> None:
    folder = tiny.write(tmp_path / "letters", "wav2vec2-large-lv60")
    agree(str(folder))
    whole = card(str(folder)).model_copy(update={"weights": "full", "family": "ctc", "language": "dv"})
    complete(folder, whole)
    agree(str(folder))
    known = known_model(str(folder), "m")
    exported = tmp_path / "onnx"
    exported.mkdir()
    (exported / "model.onnx").touch()
    record = Export(name="letters", digest="", quantization="int8", card=whole, files={"model.onnx": "not verified"})
    (exported / "export.json").write_text(record.model_dump_json())
    assert known_model(str(exported), "m") == known
    assert known is not None and known.languages == {"dv"}


MULTILINGUAL = '{"is_multilingual": true%s}'


@pytest.mark.parametrize("settings", ["", "[]", "{}", MULTILINGUAL % "", MULTILINGUAL % ', "lang_to_id": 3'])
def test_files_that_do_not_tell_are_left_to_loading(settings: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "generation_config.json").write_text(settings)
    assert known_model(str(folder), "m") is None


def test_what_is_not_here_is_left_to_loading(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"weights": "none"}))
    for name in (str(tmp_path), f"{tmp_path}/gone", "builtin:none", "nobody/nothing"):
        assert known_model(name, "m") is None


def test_a_model_of_one_language_has_no_other() -> None:
    assert (only(frozenset({"it"})), only(frozenset({"it", "nl"})), only(frozenset())) == ("it", None, None)
