"""What the serving benchmark makes of its turns, how its clients ask, and what the soak test calls flat."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from io import StringIO
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from aiohttp import web
from rich.console import Console

from asr.audio.decode import SAMPLE_RATE, decode
from asr.utterance import Utterance
from benchmarks.serving.__main__ import REPEATS, alternating, take_turn
from benchmarks.serving.figures import Load, Turn, compare, overhead_ms, speed, table
from benchmarks.serving.host import DIRECT, LIBRARY, OURS, SERVER, timed
from benchmarks.serving.load import Heard, due, saturating, speaking
from benchmarks.serving.side import Side
from benchmarks.serving.speech import PAUSE_S, Spoken, joined
from benchmarks.soak import LONG_EVERY, Soak, requests, slope_pct_per_h
from tests.speed import WAIT_S

LEVELS = (1, 8)
REFERENCES: dict[Load, Sequence[str]] = {"saturating": ["uno due", "tre quattro"], "long": ["uno due tre quattro"]}
ANSWER_S = 0.2


def turn(side: str, load: Load, clients: int, seconds: float, text: str = "uno due") -> Turn:
    texts = [text, "tre quattro"] if load != "long" else ["uno due tre quattro"]
    return Turn(side, load, clients, 10.0, seconds, texts, [seconds / 2, seconds / 4][: len(texts)])


def all_turns() -> list[Turn]:
    seconds = {OURS[0]: 1.0, LIBRARY: 4.0, SERVER: 5.0}
    turns = [turn(side, "saturating", n, seconds[side]) for side in seconds for n in LEVELS]
    turns += [turn(side, "speaking", n, seconds[side]) for side in (OURS[0], SERVER) for n in LEVELS]
    turns += [turn(side, "long", 1, seconds[side]) for side in seconds]
    return [*turns, turn(OURS[0], "alternating", 1, 1.0), turn(DIRECT, "alternating", 1, 0.96)]


def test_the_json_line_has_what_was_measured() -> None:
    figures = compare(all_turns(), LEVELS, REFERENCES, "it")
    assert figures["short_speedup"] == {"1": 4.0, "8": 4.0}
    assert figures["short_speedup_server"] == {"1": 5.0, "8": 5.0}
    assert figures["long_speedup"] == 4.0
    assert figures["wer_ours"] == figures["wer_faster_whisper"] == 0.0
    assert figures["p95_ms"].keys() == {"1", "8"} and 250 < figures["p95_ms"]["1"] <= 500
    assert figures["serve_overhead_ms_p50"] == pytest.approx(15.0)  # 20 ms for one clip, 10 ms for the other
    assert figures["errors"][OURS[0]] == figures["errors"][LIBRARY] == 0
    json.dumps(figures)


def test_a_wrong_word_counts_whoever_is_faster() -> None:
    turns = [*all_turns(), turn(OURS[0], "saturating", 8, 1.0, text="uno")]
    assert compare(turns, LEVELS, REFERENCES, "it")["wer_ours"] == 0.125  # 1 of 8 words in two turns


def test_speed_is_over_all_turns_and_overhead_over_the_best_of_each_clip() -> None:
    slow, fast = turn(OURS[0], "saturating", 1, 4.0), turn(OURS[0], "saturating", 1, 1.0)
    assert speed([slow, fast]) == 4.0
    served = [turn(OURS[0], "alternating", 1, seconds) for seconds in (4.0, 1.0)]
    assert overhead_ms([slow, *served, turn(DIRECT, "alternating", 1, 1.0)]) == 0.0


def test_the_table_has_a_row_for_each_side_and_load() -> None:
    result = compare(all_turns(), LEVELS, REFERENCES, "it") | {
        "model": "some/artifact",
        "clips": 2,
        "clip_s": 5.0,
        "long_s": 10.0,
        "peak_memory_mb_by_side": {OURS[0]: 1500},
    }
    output = StringIO()
    Console(file=output, width=160).print(table(result))
    lines = output.getvalue().splitlines()
    assert sum("long file" in line and "0.0%" in line for line in lines) == 3
    assert any("ours, ctranslate2 int8" in line and "1500" in line for line in lines)


def test_each_client_sends_a_clip_when_it_has_been_spoken() -> None:
    assert due([2.0, 3.0, 1.0, 1.0], 1) == [2.0, 5.0, 6.0, 7.0]
    assert due([2.0, 3.0, 1.0, 1.0], 2) == [2.0, 3.0, 3.0, 4.0]


def test_a_library_is_called_by_as_many_as_there_are_clients() -> None:
    together = threading.Barrier(3, timeout=WAIT_S)

    def hear(paths: list[str]) -> list[str]:
        together.wait()
        return [path.upper() for path in paths]

    assert timed(hear, ["a", "b", "c"], clients=3, at_once=1)["texts"] == ["A", "B", "C"]


def test_a_library_that_takes_many_gets_as_many_as_there_are_clients() -> None:
    sizes: list[int] = []

    def hear(paths: list[str]) -> list[str]:
        sizes.append(len(paths))
        return paths

    heard = timed(hear, list("abcdef"), clients=4, at_once=8)
    assert (heard["texts"], sizes) == (list("abcdef"), [4, 2])
    assert len(heard["latencies_s"]) == 6


class Slow:
    """An endpoint that takes ``ANSWER_S`` for each request, whatever else it does."""

    def __init__(self) -> None:
        self.most, self.now = 0, 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["language"] == "it" and isinstance(form["file"], web.FileField)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(ANSWER_S)
        self.now -= 1
        text = form["file"].file.read().decode()
        return web.json_response({"text": text}, status=500 if text == "poison" else 200)


@pytest.fixture
def slow() -> Iterator[Slow]:
    endpoint, ready, loop = Slow(), threading.Event(), asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/audio/transcriptions", endpoint.answer)
    runner = web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = "http://{}:{}".format(*runner.addresses[0][:2])
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(WAIT_S)
    yield endpoint
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def spoken(folder: Path, *texts: str) -> list[Spoken]:
    clips = [Spoken(folder / text, text, 0.01) for text in texts]
    for clip in clips:
        clip.path.write_text(clip.text)
    return clips


@pytest.mark.medium
def test_saturating_clients_wait_for_their_answers(slow: Slow, tmp_path: Path) -> None:
    heard = saturating(slow.url, spoken(tmp_path, *"abcdef"), 2, "it")
    assert heard.texts == list("abcdef") and slow.most == 2
    assert heard.seconds >= 3 * ANSWER_S and all(ANSWER_S <= each < heard.seconds for each in heard.latencies_s)


def test_speaking_clients_do_not(slow: Slow, tmp_path: Path) -> None:
    heard = speaking(slow.url, spoken(tmp_path, *"abcdef"), 1, "it")
    assert heard.texts == list("abcdef") and slow.most > 2


@pytest.mark.medium
@pytest.mark.parametrize("drive", [saturating, speaking])
def test_a_refused_request_is_counted_and_the_others_go_on(
    drive: Callable[..., Heard], slow: Slow, tmp_path: Path
) -> None:
    heard = drive(slow.url, spoken(tmp_path, "a", "poison", "b"), 1, "it")
    assert heard.texts == ["a", "", "b"]
    assert heard.errors.keys() == {1} and "answered 500" in heard.errors[1]


def test_an_endpoint_that_is_gone_is_an_error_too(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        heard = saturating(f"http://127.0.0.1:{taken.getsockname()[1]}", spoken(tmp_path, "a"), 1, "it")
    assert heard.errors.keys() == {0}


@pytest.mark.medium
def test_a_turn_counts_what_was_answered(slow: Slow, tmp_path: Path) -> None:
    side = cast(Side, SimpleNamespace(name=OURS[0], url=slow.url, turn=nullcontext))
    done = take_turn(side, "saturating", 2, spoken(tmp_path, "a", "poison", "b"))
    assert (done.audio_s, len(done.latencies_s), done.errors) == (0.02, 2, 1)
    with pytest.raises(RuntimeError, match="ours answers nothing"):
        take_turn(side, "saturating", 1, spoken(tmp_path, "poison"))


@pytest.mark.slow
def test_a_side_stands_still_with_all_its_processes_while_it_is_another_s_turn() -> None:
    side = object.__new__(Side)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        side._process, side.memory = cast(Any, process), cast(Any, SimpleNamespace(resting=False))
        family = [psutil.Process(process.pid)]

        def become(still: bool) -> bool:
            """Whether all of them come to stand still, or none: a signal takes effect a moment after it is sent."""
            until = time.monotonic() + 10.0
            while time.monotonic() < until:
                if {one.status() == psutil.STATUS_STOPPED for one in family} == {still}:
                    return True
                time.sleep(0.01)
            return False

        try:
            while len(family) < 2:
                family += family[0].children()
            with side.turn():
                assert not side.memory.resting and become(still=False)
            assert side.memory.resting and become(still=True)
        finally:
            for one in family:
                one.kill()


@pytest.mark.medium
def test_what_serve_adds_is_measured_clip_by_clip(slow: Slow, tmp_path: Path) -> None:
    class Engine:
        turn = staticmethod(nullcontext)
        name, url = DIRECT, None

        def ask(self, paths: Sequence[Path], clients: int) -> dict[str, Any]:
            asked.append(paths[0].name)
            return {"latencies_s": [0.01 * (1 + asked.count(paths[0].name))]}

    asked: list[str] = []
    endpoint = SimpleNamespace(name=OURS[0], url=slow.url, turn=nullcontext)
    turns = alternating(cast(Side, endpoint), cast(Side, Engine()), spoken(tmp_path, "a", "b"))
    assert asked == [name for name in "ab" for _ in range(REPEATS)]
    assert [turn.latencies_s for turn in turns if turn.side == DIRECT] == [[0.02] * 2, [0.03] * 2, [0.04] * 2]
    assert 1000 * (ANSWER_S - 0.02) <= overhead_ms(turns) < 1000 * ANSWER_S + 500


def test_the_long_file_is_as_long_as_asked_and_holds_whole_prompts(
    english_clips: list[Utterance], tmp_path: Path
) -> None:
    clips = english_clips[:4]
    lengths = [(clip.duration_s or 0.0) + PAUSE_S for clip in clips]
    made = joined(clips, sum(lengths[:3]) + 0.1, tmp_path / "long.flac")
    assert made.text == " ".join(clip.text for clip in clips[:3])
    assert made.duration_s == pytest.approx(sum(lengths[:3]), abs=0.01)
    assert len(decode(made.path)) == round(made.duration_s * SAMPLE_RATE)


def test_the_slope_of_memory() -> None:
    assert slope_pct_per_h([1000.0] * 60, 10.0) == pytest.approx(0.0)
    grows = [1000.0 + 100.0 * second / 3600 for second in range(0, 3600, 10)]
    assert slope_pct_per_h(grows, 10.0) == pytest.approx(100 * 100 / 1050, rel=0.01)
    assert slope_pct_per_h([1000.0], 10.0) == 0.0


def test_what_memory_does_while_it_warms_up_is_no_leak() -> None:
    soak = Soak(3, ["an error"], [0.1, 0.2, 0.3], [500.0, 900.0] + [1000.0] * 6)
    figures = soak.result()
    assert (figures["requests"], figures["errors"], figures["memory_slope_pct_per_h"]) == (3, 1, 0.0)
    assert figures["peak_memory_mb"] == 1000


def test_the_long_file_is_asked_for_now_and_then(tmp_path: Path) -> None:
    short, (long,) = spoken(tmp_path, "a", "b"), spoken(tmp_path, "long")
    asked = list(islice(requests(short, long), 2 * LONG_EVERY))
    assert asked.count(long) == 2 and asked.count(short[0]) == asked.count(short[1])
