from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from transformers import TrainerControl

from asr.utterance import Quarantined, Utterance
from tests.train.evaluation.test_schedule import scored
from train.callbacks.checkpoint_report import STATE, RayReport, earlier_totals
from train.dataloader.dataset import DataStats
from train.evaluation.evaluator import Evaluator
from train.evaluation.schedule import EvaluationConfig, Scoring, as_json, from_json
from train.events import Progress, Scored


class FakeBoard:
    """Takes entries as Ray's handle of the board does."""

    def __init__(self) -> None:
        self.posted: list[Any] = []
        self.post = SimpleNamespace(remote=self.posted.append)


class Scripted(Evaluator):
    """Scores as the test says, and proves that it is asked where that is due, with the network in training."""

    def __init__(self, wers: dict[int, float], patience: int, earlier: list[Scored]) -> None:
        config = EvaluationConfig(patience=patience)
        super().__init__(
            Scoring(config, (Utterance("a", "b", "c"),), (), 2, False, "short", None, "x"), None, earlier, 0
        )
        self.wers = wers

    def score(self, network: Any, model: Any, step: int) -> Scored:
        assert network == "the network in training"
        self._take([scored(step, self.wers.pop(step))])
        return self._scored["validation", step]


def in_local_mode(work: Any) -> Any:
    """Run ``work`` in Ray Train's local mode, in this process, and return what was reported last."""
    trainer = TorchTrainer(lambda config: work(), scaling_config=ScalingConfig(num_workers=0))
    return trainer.fit().metrics


def test_earlier_totals(tmp_path: Path) -> None:
    assert earlier_totals(None) == {}
    (tmp_path / STATE).write_text(json.dumps({"step": 3, "quarantined": []}))
    assert earlier_totals(str(tmp_path)) == {"step": 3, "quarantined": []}


def test_steps_count_on_from_those_of_earlier_attempts() -> None:
    progress = FakeBoard()
    fault = Quarantined("a", "missing_file")
    stats = DataStats(utterances=3, audio_s=9.0, tokens=50, own_s=7.5, encoded_s=10.0, quarantined=[fault])
    before = {"seconds": 100.0, "audio_s": 60.0, "wait_s": 2.0, "tokens": 1000}
    report = RayReport(SimpleNamespace(stats=stats, take_consumed=list), progress, before, 4)  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=5, max_steps=9)
    logs = {"loss": 1.5, "learning_rate": 1e-3, "grad_norm": 0.5, "blank_share": 0.9}
    in_local_mode(lambda: report.on_log(None, state, None, logs))
    (posted,) = progress.posted
    assert isinstance(posted, Progress)
    assert (posted.step, posted.resumed_at, posted.loss, posted.grad_norm) == (5, 4, 1.5, 0.5)
    assert (posted.audio_s, posted.wait_s, posted.tokens, posted.padding_share) == (69.0, 2.0, 1050, 0.25)
    assert posted.memory_bytes > 2**20
    assert posted.blank_share == 0.9


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (2, False)])
def test_a_checkpoint_knows_its_evaluations_and_hope_ends_with_patience(
    patience: int, stops: bool, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    fault = {"id": "a", "reason": "missing_file", "detail": ""}
    stats = DataStats(audio_s=9.0, quarantined=[Quarantined("a", "missing_file"), Quarantined("b", "too_long")])
    evaluator = Scripted({4: 0.5}, patience, [scored(2, 0.25)])
    dataset: Any = SimpleNamespace(stats=stats, take_consumed=list)
    report = RayReport(dataset, None, {"quarantined": [fault]}, 2, evaluator, SimpleNamespace())  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=4, max_steps=9, log_history=[{"loss": 1.5}])
    control = TrainerControl()
    args = SimpleNamespace(output_dir=str(tmp_path))
    report.begun -= 100.0  # it held its device before the first step
    metrics = in_local_mode(lambda: report.on_save(args, state, control, model="the network in training"))
    assert control.should_training_stop is stops
    assert metrics["device_s"] == metrics["held_s"] >= 100.0  # one worker
    assert 0.0 < metrics["evaluation_s"] < 100.0
    assert (metrics["step"], metrics["loss"], metrics["wer"]) == (4, 1.5, 0.5)
    written = json.loads((tmp_path / "checkpoint-4" / STATE).read_text())
    assert from_json(written["evaluations"]) == [scored(2, 0.25), scored(4, 0.5)]
    assert written["evaluations"] == as_json(evaluator.scored)
    assert [row["id"] for row in written["quarantined"]] == ["a", "b"]  # once, not each epoch


def test_between_evaluations_nothing_is_scored(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3").mkdir()
    evaluator = Scripted({}, 1, [])
    dataset: Any = SimpleNamespace(stats=DataStats(), take_consumed=list)
    report = RayReport(dataset, None, {}, 0, evaluator, SimpleNamespace())  # type: ignore[arg-type]
    state = SimpleNamespace(global_step=3, max_steps=9, log_history=[])
    args = SimpleNamespace(output_dir=str(tmp_path))
    metrics = in_local_mode(lambda: report.on_save(args, state, TrainerControl(), model="the network in training"))
    assert "wer" not in metrics
