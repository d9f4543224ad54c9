from __future__ import annotations

from typing import Any

import pytest

from asr.config import resolve
from asr.errors import UserError
from asr.utterance import Utterance
from cluster.workers import Workers
from train.config import TrainConfig
from train.evaluation.schedule import (
    Scoring,
    as_json,
    choose_async,
    exhausted,
    failed_steps,
    for_card,
    from_json,
    retention_loss,
    sample,
)
from train.events import Corpus, Failed, Scored

CLIPS = [Utterance(f"clip{n:02d}", f"{n}.flac", "text", duration_s=1.0 + n % 7) for n in range(40)]


def scored(step: int, wer: float, corpus: Corpus = "validation") -> Scored:
    figures: dict[str, Any] = {"rate": wer, "low": wer / 2, "high": wer * 2}
    return Scored(step, corpus, {"utterances": 9, "wer": figures, "wer_ortho": figures, "cer": figures})


def test_a_card_tells_of_each_evaluation_that_gave_no_figure() -> None:
    failed = [Failed(0, "no retention"), Failed(4, "no file"), Failed(4, "no retention")]
    told = failed_steps(failed, [scored(2, 0.5)], [2, 4, 6])
    assert told == [
        {"step": 0, "error": "no retention"},
        {"step": 4, "error": "no file"},
        {"step": 6, "error": "it ended without a word"},
    ]
    assert [one["step"] for one in failed_steps(failed, [scored(0, 0.5, "retention"), scored(4, 0.5)], [4])] == [4]
    assert failed_steps([], [scored(2, 0.5)], [2]) == []


def test_a_sample_is_the_same_whatever_the_order_and_another_for_another_seed() -> None:
    drawn = sample(CLIPS, 16, seed=1)
    assert drawn == sample(CLIPS[::-1], 16, seed=1)
    assert len({clip.id for clip in drawn}) == 16
    assert {clip.id for clip in drawn} != {clip.id for clip in sample(CLIPS, 16, seed=2)}
    lengths = [clip.duration_s or 0 for clip in drawn]
    assert lengths == sorted(lengths, reverse=True)


def test_a_small_corpus_is_its_own_sample() -> None:
    assert {clip.id for clip in sample(CLIPS[:3], 16, seed=1)} == {clip.id for clip in CLIPS[:3]}


@pytest.mark.parametrize(
    ("rates", "patience", "over"),
    [
        ([], 1, False),
        ([0.3], 1, False),
        ([0.3, 0.2], 1, False),
        ([0.3, 0.2, 0.2], 1, True),  # as good as before is no better
        ([0.3, 0.2, 0.25], 2, False),
        ([0.3, 0.2, 0.25, 0.21], 2, True),
        ([0.2, 0.3, 0.3, 0.1], 2, False),
        ([0.2, 0.3, 0.3, 0.3], None, False),
    ],
)
def test_patience_counts_evaluations_since_the_best(rates: list[float], patience: int | None, over: bool) -> None:
    curve = [scored(10 * n, rate) for n, rate in enumerate(rates, 1)]
    retention = [scored(10, 0.9, "retention"), scored(20, 0.95, "retention"), scored(30, 0.99, "retention")]
    assert exhausted([*retention, *reversed(curve)], patience) is over


def test_what_was_lost_of_other_speech_is_against_the_base_model() -> None:
    rows = [scored(0, 0.2, "retention"), scored(20, 0.25, "retention"), scored(20, 0.1)]
    assert retention_loss(rows, 20) == {"wer_before": 0.2, "wer_after": 0.25, "loss": pytest.approx(0.05)}
    assert retention_loss(rows, 30) is None
    assert retention_loss(rows[1:], 20) is None


def test_a_card_lists_all_evaluations_and_its_table_those_of_its_weights() -> None:
    rows = [scored(40, 0.3), scored(20, 0.1), scored(20, 0.25, "retention"), scored(0, 0.2, "retention")]
    account, table = for_card(rows, 20)
    assert [(one["step"], one["corpus"]) for one in account["evaluations"]] == [
        (0, "retention"),
        (20, "retention"),
        (20, "validation"),
        (40, "validation"),
    ]
    assert account["retention"]["loss"] == pytest.approx(0.05)
    labels = ["retention sample, base model, padded to 30 s", "retention sample, step 20", "validation sample, step 20"]
    assert [row["label"] for row in table] == labels
    assert "retention" not in for_card([scored(20, 0.1)], 20)[0]


def test_evaluations_survive_json() -> None:
    rows = [scored(40, 0.3), scored(0, 0.2, "retention")]
    assert from_json(as_json(rows)) == rows


def test_the_last_step_is_always_scored() -> None:
    scoring = Scoring(TrainConfig.model_fields["evaluation"].default, (), (), 20, False, "short", None, "best")
    assert [step for step in range(1, 51) if scoring.due(step, 50)] == [20, 40, 50]


@pytest.mark.parametrize(
    ("mode", "gpu", "present", "is_async"),
    [
        ("sync", False, {"CPU": 100}, False),
        ("async", False, {"CPU": 7}, True),
        ("auto", False, {"CPU": 7}, False),  # of a local cluster's CPUs four are a promise
        ("auto", False, {"CPU": 11}, True),
        ("auto", True, {"CPU": 100, "GPU": 2}, False),
        ("auto", True, {"CPU": 100, "GPU": 3}, True),
    ],
)
def test_evaluations_run_beside_the_workers_where_there_is_room(
    mode: Any, gpu: bool, present: dict[str, float], is_async: bool
) -> None:
    workers = Workers(count=2, cpus_each=2, gpu=gpu, data_tasks_each=2)  # 2 x (2 + 2 x 0.25) CPUs, and 2 for scoring
    assert choose_async(mode, workers, present) is is_async


def test_no_room_beside_is_said_and_not_waited_for() -> None:
    workers = Workers(count=2, cpus_each=2, data_tasks_each=2)
    with pytest.raises(UserError, match="needs 7 CPUs and 0 GPUs, the cluster has 6 CPUs and 0 GPUs"):
        choose_async("async", workers, {"CPU": 6})


def refused(*settings: str) -> str:
    with pytest.raises(UserError) as caught:
        resolve(TrainConfig, None, ["base=none", "data.train=a.jsonl", "run.checkpoint_every_steps=10", *settings])
    return str(caught.value)


def test_evaluations_are_made_of_checkpoints() -> None:
    message = refused("data.validation=b.jsonl", "evaluation.every_steps=15")
    assert "evaluation.every_steps=15 is no multiple of run.checkpoint_every_steps=10" in message


def test_nothing_is_scored_without_a_validation_set() -> None:
    asked = ("evaluation.patience=2", "evaluation.every_steps=20", "data.retention=b.jsonl")
    message = refused(*asked)
    assert "evaluation.every_steps, evaluation.patience, data.retention: nothing is scored without" in message
