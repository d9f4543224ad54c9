"""Progress where there is no terminal: a line now and then, and the last one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from train import console
from train.events import Progress

NOW = Progress(
    step=30, max_steps=120, loss=0.5, learning_rate=1e-3, seconds=60.0, audio_s=300.0, wait_s=1.0, resumed_at=20
)


def test_a_step_says_loss_speed_time_left_and_where_the_run_went_on() -> None:
    speed = "5.0 audio s/s, data wait 1.7%"
    assert console.describe(NOW) == f"step 30/120, loss 0.500, {speed}, 3:00 left, resumed at 20"
    scored = console.describe(replace(NOW, wer=0.1234))
    assert scored == f"step 30/120, loss 0.500, WER 12.3%, {speed}, 3:00 left, resumed at 20"


def test_at_the_end_it_is_said_which_step_was_the_best() -> None:
    wer = {"rate": 0.11, "low": 0.09, "high": 0.13}
    other = {"step": 20, "corpus": "retention", "wer": {"rate": 0.5, "low": 0.5, "high": 0.5}}
    training = {"step": 20, "last_step": 40, "evaluations": [other, {"step": 20, "corpus": "validation", "wer": wer}]}
    line = "best weights: step 20 of 40, WER 11.0% (9.0% to 13.0%) on the validation sample"
    assert console.ended(training) == line
    assert console.ended({"step": 40, "last_step": 40}) == "weights of step 40"
    failed = [{"step": 40, "error": "OSError: gone"}]
    said = console.ended({"step": 40, "last_step": 40, "failed_evaluations": failed})
    assert said == "weights of step 40, with no word error rate; the evaluation of step 40 failed: OSError: gone"
    assert (
        console.ended(training | {"failed_evaluations": failed})
        == f"{line}; the evaluation of step 40 failed: OSError: gone"
    )


def test_time_left_is_not_guessed_from_the_first_steps() -> None:
    assert "left" not in console.describe(replace(NOW, step=22))


def test_without_a_terminal_the_first_and_the_last_count_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with console.counting("decoding") as advance:
        for done in range(1, 6):
            advance(done, 5)
    assert capsys.readouterr().err == "decoding: 1 of 5\ndecoding: 5 of 5\n"


def test_without_a_terminal_training_is_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    with console.training() as on_progress:
        on_progress(NOW)
    assert capsys.readouterr().err == f"{console.describe(NOW)}\n"
