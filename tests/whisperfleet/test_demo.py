from __future__ import annotations

from pathlib import Path

from asr.config import resolve
from train.config import TrainConfig
from whisperfleet.demo import CONFIG, run_folder


def test_an_unfinished_demo_is_gone_on_with_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    assert run_folder(tmp_path).name == "demo-1"
    (tmp_path / "demo-1").mkdir()
    assert run_folder(tmp_path).name == "demo-1"
    (tmp_path / "demo-1" / "result.json").touch()
    assert run_folder(tmp_path).name == "demo-2"
    (tmp_path / "demo-12").mkdir()
    assert run_folder(tmp_path).name == "demo-12"


def test_the_demo_s_configuration_is_valid_and_says_where_its_values_come_from() -> None:
    resolved = resolve(TrainConfig, CONFIG)
    assert resolved.value.language == "it"
    assert resolved.origin["optim.learning_rate"] == str(CONFIG)
