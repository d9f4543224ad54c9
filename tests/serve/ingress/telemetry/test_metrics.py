from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asr.transcript import Transcript
from serve.ingress.limits.admission import Admission
from serve.ingress.telemetry.metrics import CONTENT_TYPE, MetricLabels, Metrics, exposition
from serve.replica.window_result import BatchInfo, WindowResult
from tests.serve.ingress.limits.test_admission import Hands
from tests.serve.slow import clip

DASHBOARD = Path(__file__).resolve().parents[4] / "cluster/grafana/whisperfleet.json"
ANNA, NOBODY = MetricLabels("tiny", "stable", "anna"), MetricLabels("tiny", "stable", "none")
WORD = Transcript("word", (1,), "en")


def text(metrics: Metrics) -> str:
    """What Prometheus reads of an ingress that is called ``one``."""
    return exposition({"one": metrics.families()}).decode()


def values(metrics: Metrics) -> dict[str, float]:
    """Every sample, as name{labels in order of the alphabet}, without the histograms' buckets and the ingress."""
    samples = {}
    for family in text_string_to_metric_families(text(metrics)):
        for sample in family.samples:
            if "le" not in sample.labels:
                assert sample.labels.pop("ingress") == "one"
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name.removeprefix('whisperfleet_')}{{{labels}}}"] = sample.value
    return samples


@pytest.fixture
def admission() -> Admission:
    return Admission(10, 1e6, Hands())


@pytest.fixture
def metrics(admission: Admission) -> Metrics:
    return Metrics("tiny", admission, 240.0)


def test_every_name_says_its_unit_or_what_it_counts(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(text(metrics)))
    assert len(families) >= 16
    for family in families:
        assert family.name.startswith("whisperfleet_") and family.documentation
        assert family.name.endswith(
            ("_seconds", "_ratio", "requests", "windows", "_in_flight", "_in_house", "_sent_again")
        )
    assert CONTENT_TYPE.startswith("text/plain")


def test_what_waits_is_read_when_it_is_asked_for(metrics: Metrics, admission: Admission) -> None:
    assert values(metrics)["queued_audio_seconds{model=tiny}"] == 0.0
    with admission.enter() as ticket:
        ticket.expect(120.0)
        admission._clock.time += 5.0  # type: ignore[attr-defined]
        now = values(metrics)
        assert now["requests_in_flight{model=tiny}"] == 1.0
        assert now["queued_audio_seconds{model=tiny}"] == 120.0
        assert now["queue_age_seconds{model=tiny}"] == 5.0
    assert values(metrics)["requests_in_flight{model=tiny}"] == 0.0


def test_answers_are_counted_by_key_and_status(metrics: Metrics) -> None:
    metrics.answered(ANNA, 200, 2.0, 20.0)
    metrics.answered(ANNA, 200, 1.0, 10.0)
    metrics.answered(ANNA, 400, 0.1, 0.0)
    metrics.answered(NOBODY, 429, 0.1, 0.0)
    now = values(metrics)
    assert now["requests_total{key=anna,model=tiny,status=200,version=stable}"] == 2.0
    assert now["requests_total{key=none,model=tiny,status=429,version=stable}"] == 1.0
    assert now["audio_seconds_total{key=anna,model=tiny,version=stable}"] == 30.0
    assert now["real_time_factor_ratio_sum{key=anna,model=tiny,version=stable}"] == pytest.approx(0.2)
    assert now["request_seconds_count{key=anna,model=tiny,version=stable}"] == 3.0


def test_windows_are_counted_with_their_fate(metrics: Metrics) -> None:
    plain, whole = clip("", 30), BatchInfo(4, 120.0, 6.0)
    metrics.window_done(ANNA, plain, WindowResult(WORD, 0.5, whole))
    metrics.window_done(ANNA, plain, WindowResult(replace(WORD, temperature=0.4), 0.5, None))
    metrics.window_done(ANNA, replace(plain, temperature=0.4), WindowResult(replace(WORD, temperature=0.4), 0.5, None))
    metrics.window_done(ANNA, plain, WindowResult(replace(WORD, text=""), 0.5, None))
    metrics.sent_again(ANNA)
    metrics.silent(ANNA, 12.0)
    now = values(metrics)
    assert now["windows_total{key=anna,model=tiny,version=stable}"] == 4.0
    assert now["fallback_windows_total{key=anna,model=tiny,version=stable}"] == 1.0
    assert now["empty_windows_total{key=anna,model=tiny,version=stable}"] == 1.0
    assert now["windows_sent_again_total{key=anna,model=tiny,version=stable}"] == 1.0
    assert now["silent_audio_seconds_total{key=anna,model=tiny,version=stable}"] == 12.0
    assert now["window_wait_seconds_sum{key=anna,model=tiny,version=stable}"] == 2.0
    assert now["batch_fill_ratio_sum{model=tiny,version=stable}"] == 0.5
    assert (
        now["batch_seconds_total{model=tiny,version=stable}"],
        now["batch_audio_seconds_total{model=tiny,version=stable}"],
    ) == (6.0, 120.0)


def test_a_candidate_is_counted_apart_from_the_stable_version(metrics: Metrics) -> None:
    metrics.answered(ANNA, 200, 2.0, 20.0)
    metrics.answered(replace(ANNA, version="candidate"), 200, 2.0, 20.0)
    now = values(metrics)
    assert now["requests_total{key=anna,model=tiny,status=200,version=stable}"] == 1.0
    assert now["requests_total{key=anna,model=tiny,status=200,version=candidate}"] == 1.0


def test_two_endpoints_in_a_process_count_apart(admission: Admission) -> None:
    one, other = Metrics("one", admission, 240.0), Metrics("other", admission, 240.0)
    one.sent_again(MetricLabels("one", "stable", "none"))
    assert "windows_sent_again_total{key=none,model=one,version=stable}" in values(one)
    assert not any("sent_again_total" in name for name in values(other))


def test_the_dashboard_asks_for_what_is_counted_with_the_labels_it_has(metrics: Metrics) -> None:
    metrics.answered(ANNA, 200, 2.0, 20.0)
    metrics.window_done(
        ANNA, clip("", 30), WindowResult(replace(WORD, text="", temperature=0.2), 0.5, BatchInfo(4, 120.0, 6.0))
    )
    metrics.sent_again(ANNA)
    metrics.silent(ANNA, 12.0)
    known = {}
    for family in text_string_to_metric_families(text(metrics)):
        known |= {sample.name: set(sample.labels) | {"le"} for sample in family.samples}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    found = [match for expression in asked for match in re.findall(r"(whisperfleet_\w+)\{(.*?)\}", expression)]
    assert len(found) >= len(asked)
    for name, labels in found:
        assert set(re.findall(r"(\w+)=~", labels)) <= known[name], name
