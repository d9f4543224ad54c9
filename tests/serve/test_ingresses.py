"""Two ingresses of one endpoint, behind HAProxy: they keep its bounds together, and one may die under load."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.serve.conftest import FakeEndpoint
from tests.serve.fakes import noise, voice
from tests.serve.guarded import A_MINUTE, AT_ONCE, KEYS, LIMITED, Guarded, run_guarded
from tests.speed import WAIT_S

pytestmark = [pytest.mark.ray, pytest.mark.slow]

BOUND = 8  # requests that the endpoint lets in
CLIENTS = 6
PROCESS = "ray::ServeReplica:whisperfleet:"


@dataclass(frozen=True)
class Twin:
    """An endpoint with two ingresses; its engine keeps its diary in ``fake.folder``."""

    guarded: Guarded
    fake: FakeEndpoint

    @property
    def url(self) -> str:
        return self.guarded.url

    def processes(self, deployment: str) -> dict[int, psutil.Process]:
        """The processes of a deployment's replicas, by their ids."""
        children = psutil.Process(self.guarded.pid).children(recursive=True)
        return {one.pid: one for one in children if is_of(one, deployment)}

    def addresses(self) -> list[str]:
        """Where each ingress listens for HAProxy: what is asked there, no other one answers."""
        return [
            f"http://127.0.0.1:{port}"
            for one in self.processes("Api").values()
            for port in sorted({each.laddr.port for each in one.net_connections("tcp") if each.status == "LISTEN"})
            if answers(f"http://127.0.0.1:{port}/healthz")
        ]

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.guarded.log.read_text().splitlines()]

    def change(self, verb: str, **order: Any) -> None:
        """Change the model, and come back when the command would."""
        answer = httpx.post(
            f"{self.url}/admin/models/{verb}/fake", json=order, headers=bearer(KEYS["keeper"]), timeout=WAIT_S
        )
        assert answer.status_code == 200 and '"done"' in answer.text, answer.text

    def state(self) -> dict[str, Any]:
        """The model's stable version, as an admin sees it."""
        answer = httpx.get(f"{self.url}/admin/models", headers=bearer(KEYS["keeper"]), timeout=WAIT_S)
        (stable,) = [one for one in answer.raise_for_status().json()["models"] if one["state"] == "stable"]
        return dict(stable)

    def wait_for(self, what: Callable[[], bool]) -> None:
        until = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < until
            time.sleep(0.2)


def is_of(process: psutil.Process, deployment: str) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith(f"{PROCESS}{deployment}")
    except psutil.Error:
        return False


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    folder = tmp_path_factory.mktemp("twin")
    with run_guarded(folder, "ingresses=2", f"max_queued={BOUND}") as guarded:
        yield Twin(guarded, FakeEndpoint(guarded.url, folder))


def ask(url: str, key: str = KEYS["one"], seconds: float = 2.0) -> httpx.Response:
    """Ask for words, on a connection of its own."""
    return httpx.post(
        f"{url}/v1/audio/transcriptions",
        files={"file": ("a.flac", noise(seconds) if seconds < 1.0 else voice(seconds))},
        data={"model": "fake", "language": "en"},
        headers=bearer(key),
        timeout=WAIT_S,
    )


def all_at_once(count: int, one: Callable[[int], int], clients: int = 0) -> Counter[int]:
    with ThreadPoolExecutor(clients or count) as pool:
        return Counter(pool.map(one, range(count)))


def test_both_answer_and_whichever_is_asked_tells_of_both(twin: Twin) -> None:
    assert len(twin.processes("Api")) == 2
    before = twin.state()["requests"]
    assert all_at_once(8, lambda _: ask(twin.url).status_code) == {200: 8}
    twin.wait_for(lambda: twin.state()["requests"] == before + 8)
    names = {line["ingress"] for line in twin.log() if line["status"] == 200}
    assert len(names) == 2
    text = httpx.get(f"{twin.url}/metrics", headers=bearer(KEYS["keeper"]), timeout=WAIT_S).text
    assert all(f'whisperfleet_requests_total{{ingress="{name}"' in text for name in names)


def test_a_key_had_its_requests_a_minute_on_each_ingress(twin: Twin) -> None:
    key = LIMITED["counted"][0]
    found = all_at_once(3 * A_MINUTE, lambda _: ask(twin.url, key, 0.1).status_code, CLIENTS)  # within BOUND
    assert set(found) == {200, 429}
    assert 0.95 * A_MINUTE <= found[200] <= 1.05 * A_MINUTE
    assert len({line["ingress"] for line in twin.log() if line["key"] == "counted"}) == 2


def test_a_key_had_its_requests_at_the_same_time_on_each_ingress(twin: Twin) -> None:
    with twin.fake.hold(), ThreadPoolExecutor(2 * BOUND) as pool:
        asked = [pool.submit(ask, twin.url, LIMITED["few"][0]) for _ in range(2 * BOUND)]
        twin.wait_for(lambda: sum(one.done() for one in asked) == 2 * BOUND - AT_ONCE)
        time.sleep(0.5)
        assert sum(one.done() for one in asked) == 2 * BOUND - AT_ONCE
        (twin.fake.folder / "hold").write_text("999")
    assert Counter(one.result().status_code for one in asked) == {200: AT_ONCE, 429: 2 * BOUND - AT_ONCE}


def test_a_request_was_refused_while_another_ingress_had_room(twin: Twin) -> None:
    """All that the endpoint has room for goes to one ingress; then to the other one."""
    for address in twin.addresses():
        with twin.fake.hold(), ThreadPoolExecutor(2 * BOUND) as pool:
            asked = filled(twin, address, pool)
            assert ask(twin.url).status_code == 429, "the endpoint is full, whichever is asked"
            (twin.fake.folder / "hold").write_text("999")
        assert all(one.result().status_code == 200 for one in asked)


def filled(twin: Twin, url: str, pool: ThreadPoolExecutor) -> list[Future[httpx.Response]]:
    """Ask as many as the endpoint has room for, and come back when all of them wait."""
    asked = [pool.submit(ask, url) for _ in range(BOUND)]
    twin.wait_for(lambda: in_flight(twin) == BOUND or any(one.done() for one in asked))
    assert not any(one.done() for one in asked), [one.result().text for one in asked if one.done()]
    return asked


def in_flight(twin: Twin) -> int:
    text = httpx.get(f"{twin.url}/metrics", headers=bearer(KEYS["keeper"]), timeout=WAIT_S).text
    return round(sum(map(float, re.findall(r"^whisperfleet_requests_in_flight{.*} (\S+)$", text, re.MULTILINE))))


@dataclass
class Load:
    """Clients that ask without pause: when each answer's request began, and the version that answered; and failures."""

    twin: Twin
    clients: int = CLIENTS
    retries: int = 0
    answered: list[tuple[float, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        with openai.OpenAI(
            base_url=f"{self.twin.url}/v1", api_key=KEYS["one"], max_retries=self.retries, timeout=WAIT_S
        ) as client:
            while not self.over.is_set():
                begun = time.monotonic()
                try:
                    answer = client.audio.transcriptions.with_raw_response.create(
                        model="fake", file=("a.flac", voice(2.0)), language="en"
                    )
                    self.answered.append((begun, answer.headers["x-model-version"].split()[-1]))
                except openai.OpenAIError as error:
                    self.failed.append(repr(error))

    def until(self, more: int) -> None:
        """Come back when so many more have been answered."""
        count = len(self.answered) + more
        self.twin.wait_for(lambda: len(self.answered) >= count)


@contextmanager
def load(twin: Twin, clients: int = CLIENTS, retries: int = 0) -> Iterator[Load]:
    ours = Load(twin, clients, retries)
    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ours.client) for _ in range(clients)]
        try:
            ours.until(clients)
            yield ours
        finally:
            ours.over.set()
    for one in asking:
        one.result()


def test_after_a_promotion_or_a_rollback_no_ingress_answers_with_the_version_before(twin: Twin) -> None:
    with load(twin) as ours:
        changes = []
        for number in range(3):
            for verb, order in (("promote", {"artifact": f"new{number}"}), ("rollback", {})):
                twin.change(verb, **order)
                changes.append((time.monotonic(), twin.state()["fingerprint"]))
                ours.until(2 * CLIENTS)
    assert not ours.failed
    assert len({fingerprint for _, fingerprint in changes}) == 4
    for (since, fingerprint), (until, _) in zip(changes, [*changes[1:], (time.monotonic(), "")], strict=True):
        # until the next change was begun: its command took the time before
        begun = [version for at, version in ours.answered if since <= at < until]
        assert begun[: 2 * CLIENTS] == [fingerprint] * len(begun[: 2 * CLIENTS]) and begun


def test_an_ingress_that_is_killed_costs_what_was_on_its_way_and_nothing_to_who_asks_again(twin: Twin) -> None:
    twin.wait_for(lambda: len(twin.addresses()) == 2)
    some = CLIENTS // 2
    with load(twin, some) as once, load(twin, some, retries=2) as again:
        victim = next(iter(twin.processes("Api")))
        os.kill(victim, signal.SIGKILL)
        once.until(4 * CLIENTS)
        again.until(4 * CLIENTS)
    assert not again.failed
    assert len(once.failed) <= some and "429" not in str(once.failed), "what was on its way fails once, and no more"
    twin.wait_for(lambda: victim not in twin.processes("Api") and len(twin.addresses()) == 2)
    with twin.fake.hold(), ThreadPoolExecutor(2 * BOUND) as pool:  # and there is as much room as before
        asked = filled(twin, twin.url, pool)
        (twin.fake.folder / "hold").write_text("999")
    assert all(one.result().status_code == 200 for one in asked)


def test_a_controller_that_is_killed_stops_no_request_and_the_next_one_knows_all(twin: Twin) -> None:
    twin.change("promote", artifact="kept")
    kept = twin.state()["fingerprint"]
    with load(twin) as ours:
        (victim,) = twin.processes("ModelController")
        os.kill(victim, signal.SIGKILL)
        ours.until(4 * CLIENTS)
        assert twin.state()["fingerprint"] == kept
        twin.change("promote", artifact="later")
        since, later = time.monotonic(), twin.state()["fingerprint"]
        ours.until(2 * CLIENTS)
    assert not ours.failed
    assert victim not in twin.processes("ModelController")
    assert {version for at, version in ours.answered if at >= since} == {later} != {kept}


def test_the_file_of_each_ingress_is_the_one_log(twin: Twin) -> None:
    lines = twin.log()
    assert {len(line["ingress"]) for line in lines} == {8}
    assert Path(twin.guarded.log).read_text().count("\n") == len(lines)
