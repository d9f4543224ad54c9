from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from asr.audio.container import OpenFile
from asr.audio.limits import AudioLimits
from asr.audio.sandbox_task import Handed, Stop, Task, Wait, task_of
from asr.audio.shared_samples import memory
from asr.errors import DataError
from asr.io.messages import send
from asr.io.ranges import Served
from asr.sound import SoundChoice
from asr.utterance import Utterance


def test_a_task_is_told_in_full() -> None:
    utterance = Utterance("a", "b.wav", "hm", start_s=1.5, end_s=2.5, sound=SoundChoice(1, "left"))
    task = task_of(utterance, AudioLimits(max_audio_s=7))
    told = json.loads(task.text(OpenFile("b.wav", io.BytesIO(), 12, "g722"), True))
    assert told["limits"]["max_audio_s"] == 7 and told["choice"] == {"track": 1, "channel": "left"}
    rest = ("call", "place", "size", "container", "sent", "start_s", "end_s")
    assert [told[name] for name in rest] == ["decode", "b.wav", 12, "g722", True, 1.5, 2.5]


def test_what_it_may_cost_follows_from_its_limits() -> None:
    task = Task(b"", limits=AudioLimits(max_audio_s=30, max_source_samples=8_000_000, max_bytes=100))
    assert (task.longest_s, task.most_bytes) == (2.0, 30 * 16_000 * 4)
    assert task.refuses(101) and not task.refuses(100)
    assert not Task(b"", "header", task.limits).refuses(101)


def test_files_that_cannot_be_opened_keep_their_place(tmp_path: Path) -> None:
    tasks = [Task(b"a"), Task(tmp_path / "gone"), Task(b"b")]
    with Handed(tasks) as handed:
        assert handed.tasks == [tasks[0], tasks[2]]
        first, gone, last = handed.merged([1, 2])
        assert (first, last) == (1, 2) and isinstance(gone, DataError) and gone.reason == "missing_file"
        with pytest.raises(DataError, match="missing_file"):
            handed.require()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with ours, theirs, Handed([Task(b"a"), Task(tmp_path / "a"), Task(tmp_path / "gone")]) as handed:
        handed.send(ours, ours.fileno())
        with Handed([Task(b"a")]):
            pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_was_sent_is_not_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Handed([Task(b"abc")]) as handed, pytest.raises(ValueError, match="no file"):
        handed.answer(ours, [0, 0, 1])


@pytest.mark.parametrize("asked", [None, [0, 0], [1, 0, 1], [-1, 0, 1], [0, 0.5, 1], [0, "0", 1], [0, True, 1]])
def test_what_is_no_range_of_a_file_is_refused(asked: object) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Handed([Task(b"abc")]) as handed, pytest.raises(ValueError):
        handed.answer(ours, asked)


def test_waiting_ends_where_no_sample_comes(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "samples").open("wb") as file, pytest.raises(TimeoutError):
        Wait(file.fileno(), [], 0.01).frame(ours)


@pytest.mark.medium
def test_samples_before_a_stall_brought_it_the_same_time_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, memory() as samples:
        wait, before = Wait(samples, [], 1.0), time.monotonic()
        wait._until += 60.0
        time.sleep(0.05)  # the clock of files ticks every few milliseconds
        os.pwrite(samples, bytes(4), 0)
        with pytest.raises(TimeoutError):
            wait.frame(ours)
        assert time.monotonic() - before < 1.9


@pytest.mark.medium
def test_reading_the_same_again_brings_no_time_and_reading_on_does() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, memory() as samples:
        wait = Wait(samples, [], 0.3)
        wait._until += 60.0
        for _ in range(5):
            time.sleep(0.1)
            send(theirs, {"read": [0, 0, 1]})
            assert "read" in wait.frame(ours)
            wait.go_on(Served(0.0, True))
        with pytest.raises(TimeoutError):
            for _ in range(5):
                time.sleep(0.1)
                send(theirs, {"read": [0, 0, 1]})
                wait.frame(ours)
                wait.go_on(Served(0.0, False))


def test_samples_that_keep_coming_bring_no_more_than_the_limits_allow() -> None:
    ours, theirs = socket.socketpair()
    slow = Task(b"", limits=AudioLimits(max_source_samples=400_000))
    over = threading.Event()

    def write(to: int) -> None:
        while not over.wait(0.01):
            os.pwrite(to, bytes(4), 0)

    with ours, theirs, memory() as samples:
        writing = threading.Thread(target=write, args=(samples,))
        writing.start()
        before = time.monotonic()
        with pytest.raises(TimeoutError):
            Wait(samples, [slow] * 32, 0.2).frame(ours)
        assert time.monotonic() - before < 2
        over.set()
        writing.join()


def test_who_watches_is_told_while_a_child_asks_for_more() -> None:
    ours, theirs = socket.socketpair()

    def watch(samples: int, nbytes: int) -> None:
        raise Stop

    with ours, theirs, memory() as samples, pytest.raises(Stop):
        send(theirs, {"read": [0, 0, 1]})
        Wait(samples, [], 5.0, watch).frame(ours)


class SoonGone(socket.socket):
    """A socket whose other side reads what comes, and ends before anything else is done here."""

    other: socket.socket

    def sendmsg(self, *asked: Any) -> int:
        count = super().sendmsg(*asked)
        self.other.recv(count)
        self.other.close()
        return count


def test_a_good_clip_was_lost_where_the_child_was_faster_than_who_asked() -> None:
    ours, theirs = socket.socketpair()
    with SoonGone(fileno=ours.detach()) as asking, Handed([Task(b"a")]) as handed:
        asking.other = theirs
        with memory() as samples:
            handed.send(asking, samples)


def test_speech_may_take_its_time_as_well() -> None:
    limits = AudioLimits(max_audio_s=3 * 3600)
    assert Task(b"", limits=limits, speech=True).longest_s - Task(b"", limits=limits).longest_s == pytest.approx(
        60.0 / 50
    )
