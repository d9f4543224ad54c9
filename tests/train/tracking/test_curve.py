from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.evaluation.test_schedule import scored
from tests.train.tracking.test_history import add, at
from train.tracking.curve import draw
from train.tracking.history import NAME, History


def learnt(folder: Path, steps: int, evaluated: bool = True) -> Path:
    """The history of a run that learns quickly, then a little, and forgets other speech meanwhile."""
    history = History(str(folder))
    noise = np.random.default_rng(0).normal(size=steps + 1)
    if evaluated:
        history.add_scored(scored(0, 0.2, "retention"))
    for step in range(1, steps + 1):
        loss = 0.4 + 2.2 * np.exp(-8 * step / steps) + 0.1 * noise[step]
        rate = 1e-3 * min(step / (0.1 * steps), 1.1 * (1 - step / (steps + 1)))
        add(history, replace(at(step), loss=float(loss), learning_rate=float(rate)))
        if evaluated and step % max(1, steps // 6) == 0:
            done = step / steps
            history.add_scored(scored(step, 0.1 + 0.3 * (1 - done) ** 3 + 0.02 * done))
            history.add_scored(scored(step, 0.2 + 0.1 * done, "retention"))
    return folder / NAME


def looked_at(path: Path) -> tuple[tuple[int, int], int]:
    """Size in pixels, and how many colours there are."""
    with Image.open(path) as image:
        return image.size, len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.slow
def test_the_picture_shows_what_there_is(tmp_path: Path) -> None:
    for name, evaluated, height in (("with", True, 840), ("without", False, 528)):
        (tmp_path / name).mkdir()
        target = tmp_path / f"{name}.png"
        assert draw(learnt(tmp_path / name, 60, evaluated), target, best_step=50 if evaluated else None)
        size, colours = looked_at(target)
        assert size == (960, height)
        assert colours > 50


@pytest.mark.medium
def test_one_step_is_enough(tmp_path: Path) -> None:
    assert draw(learnt(tmp_path, 1), tmp_path / "curve.png")


@pytest.mark.medium
def test_a_long_run_is_thinned_to_what_a_picture_shows(tmp_path: Path) -> None:
    from train.tracking import curve

    steps, rates = curve._read(learnt(tmp_path, 6000))
    assert 2000 <= len(steps) <= 3001
    assert steps[-1]["step"] == 6000
    assert len(rates) == 13


def test_no_step_no_picture(tmp_path: Path) -> None:
    History(str(tmp_path))
    assert not draw(tmp_path / NAME, tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()
