"""The verbs as a person uses them, against an endpoint with fake engines; with real ones in ``test_rollout``."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from asr.errors import UserError
from serve.models import cli
from tests.serve.conftest import ADMIN_KEY, KEY, FakeEndpoint, metrics
from tests.serve.fakes import voice
from tests.speed import WAIT_S

pytestmark = pytest.mark.slow  # each waits for other processes, which may wait for a core

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """What was printed since it was last asked for, as JSON."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def here(fake: FakeEndpoint) -> Iterator[dict[str, Any]]:
    """How to reach the endpoint. Afterwards it serves what it served before."""
    options = {"url": fake.url, "key": ADMIN_KEY, "as_json": True}
    yield options
    for row in rows(fake):
        if row["name"] != "fake":
            cli.unload(row["name"], **options)
    while any(row["state"] != "stable" for row in rows(fake)):
        cli.rollback("fake", **options)


def rows(fake: FakeEndpoint) -> list[dict[str, Any]]:
    request = urllib.request.Request(f"{fake.url}/admin/models", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        listed: list[dict[str, Any]] = json.load(response)["models"]
    return listed


def states(fake: FakeEndpoint, name: str = "fake") -> dict[str, str]:
    return {row["state"]: row["artifact"] for row in rows(fake) if row["name"] == name}


def heard_by(client: openai.OpenAI, number: int = 0, model: str = "fake") -> str:
    """Ask for words; return whether the stable version or the candidate answered."""
    answer = client.audio.transcriptions.with_raw_response.create(
        model=model, file=voice(2.0), language="en", extra_headers={"X-Request-ID": f"request-{number}"}
    )
    assert answer.parse().text == "2"
    return answer.headers["x-model-version"].split()[0]


def test_a_candidate_takes_its_share_then_all_of_it_and_is_rolled_back(
    fake: FakeEndpoint, fake_client: openai.OpenAI, here: dict[str, Any], told: Told
) -> None:
    cli.promote("fake", "better", canary=0.5, **here)
    assert [step["step"] for step in told()] == ["verify", "verify", "load", "done"]
    assert states(fake) == {"stable": "fake", "candidate": "better"}
    first = [heard_by(fake_client, number) for number in range(12)]
    assert {"stable", "candidate"} == set(first)
    assert [heard_by(fake_client, number) for number in range(12)] == first
    counted = metrics(fake.url)
    assert 'requests_total{key="tester",model="fake",status="200",version="candidate"}' in counted

    cli.promote("fake", **here)
    assert told()[-1]["text"].startswith("'fake' is better@")
    assert states(fake) == {"stable": "better", "previous": "fake"}
    assert {heard_by(fake_client, number) for number in range(4)} == {"stable"}
    with pytest.raises(UserError, match=r"'fake' is better@.* already"):
        cli.promote("fake", "better", **here)

    cli.rollback("fake", **here)
    assert states(fake) == {"stable": "fake"}
    assert heard_by(fake_client) == "stable"
    with pytest.raises(UserError, match="'fake' has no version before"):
        cli.rollback("fake", **here)


def test_a_canary_is_ended_by_a_rollback(fake: FakeEndpoint, here: dict[str, Any]) -> None:
    cli.promote("fake", "better", canary=0.1, **here)
    cli.promote("fake", canary=0.4, **here)
    assert [row["share"] for row in rows(fake)] == [0.6, 0.4]
    cli.rollback("fake", **here)
    assert states(fake) == {"stable": "fake"}


def test_what_does_not_load_is_refused_and_nothing_changes(
    fake: FakeEndpoint, fake_client: openai.OpenAI, here: dict[str, Any]
) -> None:
    for change in (cli.promote, cli.load):
        with pytest.raises(UserError, match=r"broken-1 is damaged \(copy it anew\)"):
            change("fake" if change is cli.promote else "new", "broken-1", **here)
    assert [row["artifact"] for row in rows(fake)] == ["fake"]
    assert heard_by(fake_client) == "stable"


def test_a_model_that_is_added_is_served_until_it_is_unloaded_and_who_is_in_is_answered(
    fake: FakeEndpoint, fake_client: openai.OpenAI, here: dict[str, Any]
) -> None:
    cli.load("dutch", "runs/dutch", **here)
    assert sorted(model.id for model in fake_client.models.list()) == ["dutch", "fake"]
    with pytest.raises(UserError, match="there is a model 'dutch' already"):
        cli.load("dutch", "runs/other", **here)
    with ThreadPoolExecutor(2) as pool:
        with fake.hold():
            asked = pool.submit(heard_by, fake_client, 0, "dutch")
            while not fake.batches():
                assert not asked.done()
            unloading = pool.submit(cli.unload, "dutch", **here)
            while "dutch" in [model.id for model in fake_client.models.list()]:
                assert not unloading.done()
            assert not asked.done()
        assert asked.result() == "stable"
        unloading.result()
    assert [row["loaded"] for row in rows(fake)] == [1]
    with pytest.raises(openai.NotFoundError, match="there is no model 'dutch' here, only 'fake'"):
        heard_by(fake_client, 0, "dutch")
    with pytest.raises(UserError, match="'fake' is the default model"):
        cli.unload("fake", **here)


def test_the_list_is_a_table_for_people(fake: FakeEndpoint, capsys: pytest.CaptureFixture[str]) -> None:
    cli.list_models(fake.url, ADMIN_KEY)
    head, row, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "state", "share", "loaded", "GB", "requests", "last", "used", "artifact"]
    assert row.split()[:5] == ["fake", "stable", "100%", "1/1", "0.00"] and "fake@" in row
    assert total == "0.00 GB in a replica"


def test_on_this_machine_an_endpoint_without_keys_needs_none(endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.list_models(endpoint)
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["tiny", "stable", "100%", "1/1"]


@pytest.mark.parametrize(("key", "reason"), [(KEY, "may not manage models"), ("guessed", "not known here")])
def test_without_a_key_for_it_nothing_is_seen_or_changed(fake: FakeEndpoint, key: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        cli.list_models(fake.url, key)
    with pytest.raises(UserError, match=reason):
        cli.rollback("fake", fake.url, key)


def test_an_address_where_nobody_answers_is_named(fake: FakeEndpoint) -> None:
    with pytest.raises(UserError, match=r"no endpoint answers at http://127\.0\.0\.1:1: .*--url"):
        cli.list_models("http://127.0.0.1:1")
    with pytest.raises(UserError, match="Not Found"):
        cli.list_models(f"{fake.url}/elsewhere", ADMIN_KEY)


def test_a_score_decides(fake: FakeEndpoint, here: dict[str, Any], tmp_path: Path, told: Told) -> None:
    (tmp_path / "clip.flac").write_bytes(voice(3.0))
    line = {"audio_filepath": "clip.flac", "text": "two", "lang": "en"}  # what the fake hears is "3"
    (tmp_path / "set.jsonl").write_text(json.dumps(line))
    score = {"score": str(tmp_path / "set.jsonl"), "max_wer": 0.5}
    with pytest.raises(UserError, match=r"WER of 100\.0% is over the 50\.0% that was allowed \(force"):
        cli.promote("fake", "worse", **score, **here)
    assert states(fake) == {"stable": "fake"}
    told()
    cli.promote("fake", "worse", **score, force=True, **here)
    [scored] = [step["text"] for step in told() if step["step"] == "score"]
    assert scored.startswith("WER on 1 clips: candidate 100.0%") and "all the same" in scored
    with pytest.raises(UserError, match=r"nowhere\.jsonl: no such file"):
        cli.promote("fake", "third", score="/nowhere.jsonl", **here)


def test_a_relative_artifact_is_found_by_an_endpoint_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert cli._found("runs", "http://127.0.0.1:8000") == f"{tmp_path}/runs"
    assert cli._found("runs", "https://speech.example.com") == "runs"  # it has folders of its own
    assert cli._found("openai/whisper-small", "http://localhost:8000") == "openai/whisper-small"
    assert cli._found("", "http://localhost:8000") == ""
