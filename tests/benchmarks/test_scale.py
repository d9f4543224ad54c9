"""The parts of the scale benchmark at tiny sizes, and what its simulation and its counting rest on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from benchmarks.scale import __main__ as scale
from benchmarks.scale.coordinator import coordinator
from benchmarks.scale.corpora import utterances
from benchmarks.scale.figures import SMALL, Figure, growth, rounded, table
from benchmarks.scale.plan import KINDS, measured
from benchmarks.scale.processes import using
from benchmarks.scale.scheduler import scheduler
from benchmarks.scale.simulation import BUDGET_S, HOUSE_BATCHES, WINDOW_S, Service, Simulation, steady, stepped

FAST = Service(fixed_s=0.2, per_audio_s=0.01)


def named(figures: list[Figure]) -> dict[str, float]:
    return {figure.what: figure.value for figure in figures}


@pytest.mark.medium
def test_made_up_utterances_are_such_as_a_corpus_holds() -> None:
    made = utterances(500)
    columns = made.columns()
    assert len(set(made.ids())) == len(made) == 500
    assert columns.audio_s.min() >= 0.5 and columns.audio_s.max() < 30.0
    first, last = made.take([0, 499])
    assert first.audio == "s3://speech/corpus/clips/utterance-000000000.flac"
    assert last.id == "utterance-000000499" and last.text and last.language == "it"
    assert utterances(500).table == made.table


@pytest.mark.medium
@pytest.mark.parametrize("kind", KINDS)
def test_planning_is_measured_in_every_way(kind: str) -> None:
    found = measured(2_000, kind, 4)
    assert all(value > 0 for what, (value, _) in found.items() if not what.startswith("memory"))
    assert 100 < found["columns in the object store"][0] < 400


def test_the_line_and_the_door_are_measured() -> None:
    figures = scheduler(SMALL)
    assert {figure.at for figure in figures} >= {"20 windows of one request", "20 others inside"}
    assert all(figure.value >= 0 for figure in figures)


def test_pipelines_at_the_coordinator_are_measured() -> None:
    figures = coordinator(SMALL)
    shared = {"1 pipelines on 1 nodes", "4 pipelines on 1 nodes"}
    assert {figure.at for figure in figures} == shared | {"4 pipelines on 1 nodes, each node apart"}
    assert all(figure.value > 0 for figure in figures)


def test_replicas_with_room_answer_all_and_without_room_what_they_can() -> None:
    calm = named(steady(FAST, SMALL, 0.5, 1))
    assert calm["answered 429"] == 0
    assert FAST.seconds(WINDOW_S) <= calm["latency, median"] < FAST.seconds(BUDGET_S)
    crowded = named(steady(FAST, SMALL, 1.5, 1))
    assert crowded["answered 429"] == pytest.approx(100 / 3, abs=8)
    # Nobody waits for more than what the house holds, and for the batch that they meet.
    assert crowded["the same, in full batches"] < HOUSE_BATCHES + 2


def test_a_simulation_is_its_seed() -> None:
    def outcome(seed: int) -> list[float]:
        return Simulation(FAST, 3, 2, 1e9, seed).run(lambda now: 5.0, 20.0, 0.0).latencies_s

    assert outcome(1) == outcome(1) != outcome(2)
    assert len(outcome(1)) == pytest.approx(100, abs=40)


def test_scaling_follows_a_load_that_grows() -> None:
    found = named(list(stepped(FAST, SMALL)))
    assert found["replicas at most"] >= found["replicas that the load needs, batches full"]


def test_fewer_replicas_are_wanted_for_long_before_one_goes() -> None:
    decided = Simulation._decided
    assert decided([5] * 10, 3, 10.0, 300.0) == 5
    assert decided([3, *[5] * 9], 3, 10.0, 300.0) == 3
    assert decided([2] * 299, 3, 10.0, 300.0) == 3
    assert decided([2] * 300, 3, 10.0, 300.0) == 2


@contextmanager
def at_work(code: str) -> Iterator[None]:
    """A process that has printed a line, and ends with what it reads."""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        yield
        process.stdin.close()


@pytest.mark.medium
def test_core_seconds_are_those_of_our_own_processes() -> None:
    code = "import sys, time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\nsys.stdin.read()"
    with ExitStack() as stack:
        with using({"process_time": "busy", "nobody": "none"}) as used:
            stack.enter_context(at_work(code))
        with using({"process_time": "busy"}) as nothing:
            pass
    assert used.of("busy") >= 0.25 and used.of("none") == 0.0
    assert nothing.of("busy") < 0.1


@pytest.mark.medium
def test_core_seconds_of_the_busiest_thread_are_not_those_of_all() -> None:
    """An event loop is one thread: the work of the others beside it does not bound it."""
    work = "def work(seconds):\n while time.thread_time() < seconds: pass\n"
    other = "other = threading.Thread(target=work, args=[0.2])\nother.start()\nwork(0.4)\nother.join()\n"
    code = f"import sys, threading, time\n{work}{other}print(flush=True)\nsys.stdin.read()"
    with ExitStack() as stack, using({"thread_time": "busy"}) as used:
        stack.enter_context(at_work(code))
    assert used.of("busy") >= 0.55
    assert 0.35 <= used.of_the_busiest_thread("busy") <= used.of("busy") - 0.15
    assert used.of_the_busiest_thread("nobody") == 0.0


@pytest.mark.medium
def test_what_a_process_took_that_has_ended_is_its_parent_s() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    code = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])\nprint(flush=True)\nsys.stdin.read()"
    )
    with ExitStack() as stack, using({"sys.stdin.read": "parent"}) as used:
        stack.enter_context(at_work(code))
    assert used.of("parent") >= 0.25


@pytest.mark.medium
def test_the_peak_of_memory_is_that_since_the_reset() -> None:
    code = """
from benchmarks.scale.processes import peak_bytes, reset_peak, resident_bytes
bytearray(128 << 20)
reset_peak()
before = peak_bytes()
held = bytearray(64 << 20)
print(peak_bytes() - before, len(held) < resident_bytes())
"""  # a process of its own: in this one malloc may give what the tests before have touched and freed
    grown, resident = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert 50 << 20 < int(grown) < 100 << 20 and resident == "True"


def test_numbers_for_people_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [rounded(value) for value in (0.0, 0.00123456, 12.3456, 1234567.0)] == [0.0, 0.001235, 12.35, 1234567.0]
    assert growth([1, 10, 100], [1.0, 2.0, 20.0]) == pytest.approx(1.0)
    part = {"load_average": [0.1, 0.2], "seconds": 1.0, "figures": [Figure("it", "once", 2.5, "s").as_json()]}
    Console(width=100).print(table("plan", part))
    assert "load average 0.1 before" in " ".join(capsys.readouterr().out.split())


def test_a_part_measured_later_stands_beside_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = SimpleNamespace(one=lambda sizes: [Figure("it", "once", 1.0, "s")])
    monkeypatch.setitem(sys.modules, "fake_part", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(scale, "PARTS", {"first": "fake_part:one", "second": "fake_part:one"})
    for name in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["scale", "--small", "--parts", name, "--save", str(tmp_path / "scale.json")])
        scale.main()
    parts = json.loads((tmp_path / "scale.json").read_text())["parts"]
    assert list(parts) == ["first", "second"] and parts["first"]["figures"][0]["value"] == 1.0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["benchmark"] == "scale"


LONG = [pytest.param(part, marks=pytest.mark.long) for part in ("driver", "router", "ingress")]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["admission", "rows", "simulation", *LONG])
def test_a_part_with_real_processes_runs(part: str, ray_cluster: None) -> None:
    found = scale.run(part, SMALL)
    rest = "kept as columns, repeated ids sought"  # a difference of two times, next to nothing, and may be below 0
    assert found["figures"] and all(one["value"] >= 0 for one in found["figures"] if one["what"] != rest)
