"""What Prometheus is told to read and to warn of: expressions that it parses, over what is really counted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from serve.ingress.limits.admission import Admission
from serve.ingress.telemetry.metrics import Metrics, exposition

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster/prometheus"
DASHBOARD = ROOT / "cluster/grafana/whisperfleet.json"

DURATION = {"type": "string", "pattern": r"^\d+[smhd]$"}
WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
RULE = {
    "type": "object",
    "properties": {
        "alert": {"type": "string", "pattern": "^[A-Z][A-Za-z]+$"},
        "expr": {"type": "string"},
        "for": DURATION,
        "labels": {"type": "object", "properties": {"severity": {"enum": ["warning", "critical"]}}},
        "annotations": WORDS | {"required": ["summary", "description"]},
    },
    "required": ["alert", "expr", "labels", "annotations"],
    "additionalProperties": False,
}


def written(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    return [rule for group in written("alerts.yml")["groups"] for rule in group["rules"]]


def selectors(expression: Any) -> Iterator[Any]:
    """Yield the series that a parsed expression asks for."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        for name in ("lhs", "rhs", "expr", "vector_selector"):
            if (child := getattr(node, name, None)) is not None:
                visit(child)
        for child in getattr(node, "args", None) or []:
            visit(child)

    visit(expression)
    yield from found


@pytest.fixture(scope="module")
def counted() -> set[str]:
    """The names under which an endpoint's counters are read."""
    text = exposition({"one": Metrics("any", Admission(1, 1.0), 240.0).families()}).decode()
    names = set()
    for family in text_string_to_metric_families(text):
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names | {f"ray_{name}" for name in METRICS_GAUGES} | {"up"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_what_is_counted(rule: dict[str, Any], counted: set[str]) -> None:
    jsonschema.validate(rule, RULE)
    asked = {selector.name for selector in selectors(promql_parser.parse(rule["expr"]))}
    assert asked and asked <= counted, asked - counted


def test_rules_on_refusals_age_and_errors_are_there() -> None:
    expressions = " ".join(rule["expr"] for rule in rules())
    for sign in ('status="429"', "queue_age_seconds", 'status=~"5.."', "windows_sent_again", "gpus_utilization"):
        assert sign in expressions
    assert len({rule["alert"] for rule in rules()}) == len(rules())


@pytest.mark.parametrize("wrong", ["sum by (model (x)", "rate(x[5m)", "x{status=429}"])
def test_an_expression_that_prometheus_would_refuse_is_caught(wrong: str) -> None:
    with pytest.raises(ValueError):
        promql_parser.parse(wrong)


def test_a_slip_of_the_pen_in_a_rule_is_caught() -> None:
    with pytest.raises(jsonschema.ValidationError, match="anotations"):
        jsonschema.validate(rules()[0] | {"anotations": {}}, RULE)


def test_prometheus_reads_the_endpoint_ray_and_the_rules() -> None:
    config = written("prometheus.yml")
    assert set(config) == {"global", "rule_files", "alerting", "scrape_configs"}
    assert [FOLDER / name for name in config["rule_files"]] == [FOLDER / "alerts.yml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert set(jobs) == {"whisperfleet", "ray", "ray-kubernetes"}
    assert jobs["whisperfleet"]["metrics_path"] == "/metrics"
    assert set(jobs["whisperfleet"]["authorization"]) == {"credentials_file"}  # the type is Bearer where none is named
    assert 'up{job="whisperfleet"}' in " ".join(rule["expr"] for rule in rules())
    assert all(jobs["ray-kubernetes"]["relabel_configs"])


def test_pods_say_where_their_metrics_are() -> None:
    """The scrape of Kubernetes' pods keeps the port that is called metrics."""
    service = yaml.safe_load((ROOT / "cluster/kuberay/serve.yaml").read_text(encoding="utf-8"))
    cluster = service["spec"]["rayClusterConfig"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert {"name": "metrics", "containerPort": 8080} in container["ports"]


def test_the_dashboard_s_expressions_parse(counted: set[str]) -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 10
    for expression in expressions:
        parsed = promql_parser.parse(re.sub(r"\$__rate_interval", "5m", expression))
        assert {selector.name for selector in selectors(parsed)} <= counted
