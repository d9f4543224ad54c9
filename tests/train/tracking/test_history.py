from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from asr.io import storage
from tests.train.evaluation.test_schedule import scored
from tests.train.test_events import AT_10
from train.events import Progress
from train.tracking.history import NAME, History, evaluations, rows


def at(step: int, resumed_at: int = 0) -> Progress:
    """A step that took two seconds, half a second of them waiting, and heard ten seconds of speech."""
    totals = {"seconds": 2.0 * step, "audio_s": 10.0 * step, "wait_s": 0.5 * step, "tokens": 40 * step}
    return replace(AT_10, step=step, resumed_at=resumed_at, grad_norm=0.5, memory_bytes=2**29, **totals)


def steps(path: Path) -> list[int]:
    return [row["step"] for row in rows(path) if "loss" in row]


def add(history: History, progress: Progress) -> None:
    history.cut_by(progress)
    history.add_step(progress)


def test_a_row_has_the_figures_of_its_step(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for step in (1, 2, 3):
        add(history, at(step))
    *_, last = rows(tmp_path / NAME)
    of_step = {"audio_per_s": 5.0, "tokens_per_s": 20.0, "wait_share": 0.25, "memory_gib": 0.5, "grad_norm": 0.5}
    assert of_step.items() <= last.items()
    assert (last["step"], last["seconds"], last["audio_s"], last["tokens"]) == (3, 6.0, 30.0, 120)


def test_what_lies_beyond_the_step_a_run_goes_on_from_is_cut_off(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for step in range(1, 6):
        add(history, at(step))
        history.add_scored(scored(step, 1 / step))
    assert history.cut_by(at(4, resumed_at=3))
    history.add_step(at(4, resumed_at=3))
    assert steps(tmp_path / NAME) == [1, 2, 3, 4]
    assert [one.step for one in history.scored] == [one.step for one in evaluations(tmp_path / NAME)] == [1, 2, 3]
    assert history.wer == pytest.approx(1 / 3)
    assert not history.cut_by(at(5, resumed_at=3))


def test_another_process_goes_on_with_the_same_file(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for step in (1, 2, 3):
        add(history, at(step))
    again = History(str(tmp_path))
    again.add_scored(scored(2, 0.5))
    add(again, at(3, resumed_at=2))
    add(again, at(4, resumed_at=2))
    assert steps(tmp_path / NAME) == [1, 2, 3, 4]
    (third,) = (row for row in rows(tmp_path / NAME) if row["step"] == 3)
    assert third["audio_per_s"] == 5.0  # since step 2, though another process wrote that
    assert History(str(tmp_path)).scored == again.scored


def test_a_run_that_begins_anew_after_a_crash_before_its_first_checkpoint(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for step in (1, 2, 3):
        add(history, at(step))
    add(History(str(tmp_path)), at(1))
    assert steps(tmp_path / NAME) == [1]


def test_an_evaluation_is_written_once(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    assert history.add_scored(scored(2, 0.5))
    assert not history.add_scored(scored(2, 0.5))
    assert history.add_scored(scored(2, 0.5, "retention"))
    assert len(evaluations(tmp_path / NAME)) == 2


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path) -> None:
    add(History(str(tmp_path)), at(1))
    with (tmp_path / NAME).open("a") as file:
        file.write(json.dumps({"step": 2, "loss": 1.0})[:9])
    history = History(str(tmp_path))
    add(history, at(2, resumed_at=1))
    assert steps(tmp_path / NAME) == [1, 2]


def test_a_run_at_an_address_has_its_history_there(s3: str, tmp_path: Path) -> None:
    place = storage.join(s3, tmp_path.name)
    history = History(place)
    add(history, at(1))
    history.publish()
    again = History(place)
    assert again.path != history.path
    assert steps(again.path) == [1]
