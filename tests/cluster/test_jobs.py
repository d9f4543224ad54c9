"""Jobs on a real head. What they run is a line for the shell: a verb takes seconds to import what it needs."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncIterator

import pytest

from asr.errors import UserError
from cluster import jobs as jobs_module
from cluster.jobs import Cluster, JobRequest, SubmittedJob, dashboard
from tests.cluster.conftest import Running

ORDER = JobRequest(("train", "configs/demo.yaml"), "s3://bucket/speech", "image", "abc+")
WAITS = "echo begun; exec sleep 600"


def python(code: str) -> str:
    return shlex.join([sys.executable, "-c", code])


def test_a_job_s_exit_code_and_its_output_come_back_and_its_name_is_free_again(cluster: Cluster) -> None:
    shown: list[str] = []
    job = cluster.submit("three", python("print('it ran'); raise SystemExit(3)"), ORDER, {})
    assert (job.name, job.attempt, job.order) == ("three", 1, ORDER)
    ended = cluster.follow(job, shown.append)
    assert (ended.state, ended.exit_code, ended.code) == ("failed", 3, 3)
    assert "it ran\n" in "".join(shown)
    assert "it ran\n" in cluster.logs(ended)
    again = cluster.submit("three", "true", ORDER, {})
    assert (again.attempt, again.id) == (2, "three-2")
    assert cluster.follow(again, shown.append).code == 0
    assert [job.attempt for job in cluster.jobs() if job.name == "three"] == [2, 1]
    assert cluster.find("three").attempt == 2
    assert cluster.find("three-1").attempt == 1


def test_a_running_job_is_in_the_way_of_its_name_until_it_is_stopped(cluster: Cluster) -> None:
    job = cluster.submit("waits", WAITS, ORDER, {})
    with pytest.raises(UserError, match=r"a job called 'waits' is (pending|running) .*choose another --name"):
        cluster.submit("waits", WAITS, ORDER, {})
    stopped = cluster.stop(job)
    assert (stopped.state, stopped.code) == ("stopped", 1)
    with pytest.raises(UserError, match=r"no job 'wait' on http.*there are: .*waits"):
        cluster.find("wait")


def test_of_two_who_submit_the_same_name_at_once_one_is_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "jobs", lambda _: [])  # neither sees the other's
    cluster.submit("both", "true", ORDER, {})
    with pytest.raises(UserError, match="refused"):
        cluster.submit("both", "true", ORDER, {})


def test_a_name_is_short_and_plain(cluster: Cluster) -> None:
    for name in ("", "a b", "-x", "x" * 64, "a/b"):
        with pytest.raises(UserError, match="cannot be a job's name"):
            cluster.submit(name, "true", ORDER, {})


def test_a_broken_connection_is_made_again_and_nothing_is_shown_twice(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = cluster.submit("tail", "true", ORDER, {})
    texts = [["one ", "two "], ["one two ", "three"], ["one two three", " four"]]

    async def tail(_: str) -> AsyncIterator[str]:
        parts = texts.pop(0)
        for part in parts:
            yield part
        if texts:
            raise RuntimeError("WebSocket connection closed unexpectedly")

    monkeypatch.setattr(cluster._client, "tail_job_logs", tail)
    shown: list[str] = []
    assert cluster.follow(job, shown.append).state == "succeeded"
    assert "".join(shown) == "one two three four"
    monkeypatch.setattr(jobs_module, "_PATIENCE_S", 0.0)
    texts += [[], [], []]
    with pytest.raises(UserError, match=r"no longer answers: WebSocket .*the job may go on"):
        cluster.follow(job, shown.append)


def test_wrong_and_missing_tokens_are_one_clear_line(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a wrong one")
    with pytest.raises(UserError, match="does not take this token") as wrong:
        Cluster(running.head.address)
    assert "a wrong one" not in str(wrong.value)
    # In a process of its own: Ray keeps the token that a session in this one may have begun with.
    missing = running.run("status", RAY_AUTH_MODE="disabled", RAY_AUTH_TOKEN_PATH="")
    assert missing.returncode == 2 and len(missing.stderr.splitlines()) == 1
    assert "asks for a token, and none was found" in missing.stderr


def test_where_nobody_answers() -> None:
    before = dict(os.environ)
    with pytest.raises(UserError, match=r"no cluster answers at http://127\.0\.0\.1:1: .*refused"):
        Cluster("http://127.0.0.1:1")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("exit_code", "state", "code"), [(0, "succeeded", 0), (-9, "failed", 137), (None, "failed", 1)]
)
def test_exit_codes(exit_code: int | None, state: str, code: int) -> None:
    assert SubmittedJob("a", 1, "a-1", state, ORDER, None, None, exit_code, "").code == code


@pytest.mark.parametrize(
    ("given", "variable", "local", "found"),
    [
        ("http://head:8265", "http://other:1", "http://127.0.0.1:2", "http://head:8265"),
        ("https://ray.example.org/ray/", None, None, "https://ray.example.org/ray"),
        ("head:8265", None, None, "http://head:8265"),
        (None, "http://other:1/", "http://127.0.0.1:2", "http://other:1"),
        (None, None, "http://127.0.0.1:2", "http://127.0.0.1:2"),
    ],
)
def test_which_cluster(
    given: str | None, variable: str | None, local: str | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert dashboard(given, local) == found


@pytest.mark.parametrize(
    ("given", "variable", "said"),
    [
        ("ray://head:10001", None, "--address=ray://head:10001: jobs are sent to a cluster's dashboard"),
        ("head", None, "--address=head"),
        (None, "auto", "RAY_ADDRESS=auto"),
        (None, "10.0.0.1:6379", "RAY_ADDRESS=10.0.0.1:6379"),
        (None, None, "which cluster"),
    ],
)
def test_no_dashboard(given: str | None, variable: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(UserError, match=said):
        dashboard(given, None)
