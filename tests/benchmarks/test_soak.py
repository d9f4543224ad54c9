"""Twenty minutes of requests, and the line through the memory that they take."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from benchmarks.serving.speech import Spoken
from benchmarks.soak import LONG_EVERY, requests, run, slope_pct_per_h

MINUTES = 20.0
MAX_SLOPE_PCT_PER_H = 25.0  # without a leak it was -4.2 in benchmarks/results/soak.json


def test_growth_is_a_share_of_the_mean_in_an_hour() -> None:
    assert slope_pct_per_h([100.0] * 10, 10.0) == pytest.approx(0.0, abs=1e-9)
    assert slope_pct_per_h([99.5, 100.0, 100.5], 1800.0) == pytest.approx(1.0)
    assert slope_pct_per_h([100.0], 10.0) == 0.0


def test_the_long_file_is_asked_for_now_and_then_and_every_short_one_in_turn() -> None:
    short = [Spoken(Path("x"), "a", 1.0), Spoken(Path("x"), "b", 1.0)]
    long = Spoken(Path("x"), "long", 120.0)
    asked = requests(short, long)
    first = [next(asked) for _ in range(2 * LONG_EVERY)]
    assert [number for number, one in enumerate(first, 1) if one is long] == [LONG_EVERY, 2 * LONG_EVERY]
    assert first[:4] == [*short, *short]


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.timeout(1800)
def test_twenty_minutes_of_requests_have_no_error_and_no_leak() -> None:
    with tempfile.TemporaryDirectory(prefix="wf-", dir="/tmp") as folder:
        result = run("builtin:base", MINUTES, Path(folder))
    assert result["errors"] == 0, result["first_errors"]
    assert result["memory_slope_pct_per_h"] < MAX_SLOPE_PCT_PER_H, result
