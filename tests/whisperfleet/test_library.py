"""The functions that a program calls, on a real checkpoint and speech; ``fit`` is in tests/train/run/test_fit.py."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import whisperfleet
from asr.errors import UserError
from asr.utterance import Utterance
from tests.manifests import write_beside
from train.config import TrainConfig


def test_importing_it_costs_no_torch_and_no_ray() -> None:
    code = (
        "import sys, whisperfleet\n"
        "print(whisperfleet.__version__, sorted({'torch', 'ray', 'transformers', 'numpy'} & set(sys.modules)))\n"
        "print(*whisperfleet.__all__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version = metadata.version("whisperfleet")
    assert done.stdout.splitlines() == [f"{version} []", "__version__ evaluate fit load_engine running transcribe"]


def test_what_is_not_there_is_an_attribute_error_and_what_is_there_is_listed() -> None:
    assert set(whisperfleet.__all__) <= set(dir(whisperfleet))
    with pytest.raises(AttributeError, match="'whisperfleet' has no attribute 'trnscribe'"):
        whisperfleet.trnscribe  # noqa: B018


@pytest.mark.slow
def test_one_engine_hears_many_files(tiny_en_name: str, english_clips: list[Utterance]) -> None:
    engine = whisperfleet.load_engine(tiny_en_name)
    first, second = (whisperfleet.transcribe(str(clip.audio), engine, "english") for clip in english_clips[:2])
    assert first.language == "en" and len(first.text.split()) > 5
    assert second.text and second.text != first.text
    with pytest.raises(UserError, match="did you mean 'engine'"):
        whisperfleet.load_engine(tiny_en_name, "engin=torch")


@pytest.mark.slow
def test_an_evaluation_loses_no_row(tiny_en_name: str, english_clips: list[Utterance], tmp_path: Path) -> None:
    gone = Utterance("gone", str(tmp_path / "gone.wav"), "words", 1.0)
    write_beside(tmp_path / "test.jsonl", [*english_clips[:3], gone])
    done = whisperfleet.evaluate(tiny_en_name, str(tmp_path / "test.jsonl"), context="full")
    assert len(done.evaluation.results) == 3
    assert [row.id for row in done.quarantined] == ["gone"]
    assert done.evaluation.wer.rate < 0.5


def test_a_configuration_is_a_file_with_words_or_itself(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such configuration file"):
        whisperfleet.fit(tmp_path / "none.yaml")
    config = TrainConfig.model_validate({"base": "builtin:tiny.en", "data": {"train": "a.jsonl"}})
    with pytest.raises(TypeError, match="settings go with a file"):
        whisperfleet.fit(config, "optim.max_steps=1")


def test_what_cannot_be_served_is_said_before_anything_starts(tiny_en_name: str) -> None:
    with pytest.raises(UserError, match="did you mean 'port'"), whisperfleet.running(tiny_en_name, "prt=1"):
        pass
