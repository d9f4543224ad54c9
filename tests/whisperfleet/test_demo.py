from __future__ import annotations

from pathlib import Path

import pytest

from asr.config import resolve
from asr.errors import UserError
from train.config import TrainConfig
from whisperfleet.demo import CONFIG, CTC_CONFIG, ctc_run, demo, run_folder


def test_an_unfinished_demo_is_gone_on_with_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    assert run_folder(tmp_path).name == "demo-1"
    (tmp_path / "demo-1").mkdir()
    assert run_folder(tmp_path).name == "demo-1"
    (tmp_path / "demo-1" / "result.json").touch()
    assert run_folder(tmp_path).name == "demo-2"
    (tmp_path / "demo-12").mkdir()
    (tmp_path / "demo-12-ctc").mkdir()
    (tmp_path / "demo-13-comparison").mkdir()
    assert run_folder(tmp_path).name == "demo-12"


def test_the_demo_s_configuration_is_valid_and_says_where_its_values_come_from() -> None:
    resolved = resolve(TrainConfig, CONFIG)
    assert resolved.value.language == "it"
    assert resolved.origin["optim.learning_rate"] == str(CONFIG)


def test_the_ctc_run_has_the_encoder_the_speech_and_the_machines_of_the_demo_s_own(tmp_path: Path) -> None:
    own = ["base=builtin:tiny.en", "language=English", "seed=3", "workers.cpus_each=1", "optim.max_steps=77"]
    folder = tmp_path / "demo-1"
    first = resolve(TrainConfig, CONFIG, [*own, f"data.train={folder}/data/train.jsonl"]).value
    second = ctc_run(first, folder, ["optim.learning_rate=0.1"])
    assert (second.head, second.base, second.language, second.seed) == ("ctc", "builtin:tiny.en", "en", 3)
    assert (second.workers, second.data) == (first.workers, first.data)
    assert (second.run.folder, second.run.name) == (str(tmp_path), "demo-1-ctc")
    assert second.optim.learning_rate == 0.1
    assert second.optim.max_steps == resolve(TrainConfig, CTC_CONFIG).value.optim.max_steps
    assert ctc_run(first, folder, ["base=builtin:base"]).base == "builtin:base"


def test_settings_of_a_run_that_nobody_asked_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--ctc.*add --compare"):
        demo(runs=tmp_path, ctc=["optim.max_steps=3"])


def test_a_mistake_in_the_second_run_s_settings_is_told_before_the_first_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key .optim\.max_step"):
        demo(runs=tmp_path, compare=True, ctc=["optim.max_step=3"])
