"""Tasks of a sandbox child: what to do with files, which are opened for it, and how long it may take."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeVar

from asr.audio.container import OpenFile, open_source
from asr.audio.limits import DEFAULT_LIMITS, AudioLimits
from asr.audio.sandbox_speech import SEARCHED_S, SPEECH_S_PER_S
from asr.audio.shared_samples import progress
from asr.audio.track.downmix import SAMPLE_RATE
from asr.errors import DataError
from asr.io.messages import readable, receive
from asr.io.ranges import Ranges, Served, descriptor
from asr.parsed import JsonObject
from asr.sound import DEFAULT_CHOICE, SoundChoice
from asr.utterance import Utterance

SAMPLE_BYTES = 4
SOURCE_SAMPLES_PER_S = 4_000_000  # no codec is slower than this on a core; with it, the limits set the longest time

LOOK_S = 0.02  # how often a watched decoding is looked at: half a minute of audio
FRAME_S = 5.0  # from a frame's first byte to its last: nobody is told in between

Source = str | Path | bytes
Kind = TypeVar("Kind")
Watch = Callable[[int, int], None]
"""Is told how many samples there are of a recording so far, and how many bytes of memory they take."""


class Stop(Exception):
    """Raised by a watcher of a decoding to stop it."""


@dataclass(frozen=True)
class Task:
    """A task on one file: ``call`` is decode, header or probe; the other fields are the arguments of ``decode``.

    ``sparse``: digital silence is left out of the file of samples, as holes; it must be a new one. ``speech``: where
    somebody speaks in such a file is told as well.
    """

    source: Source
    call: str = "decode"
    limits: AudioLimits = DEFAULT_LIMITS
    choice: SoundChoice = DEFAULT_CHOICE
    start_s: float = 0.0
    end_s: float | None = None
    sparse: bool = False
    speech: bool = False

    @property
    def longest_s(self) -> float:
        """Return how many seconds the task may take, while samples keep coming."""
        decoding_s = self.limits.max_source_samples / SOURCE_SAMPLES_PER_S
        return decoding_s + (min(self.limits.max_audio_s, SEARCHED_S) / SPEECH_S_PER_S if self.speech else 0.0)

    @property
    def most_bytes(self) -> int:
        """Return how many bytes may be written."""
        return round(self.limits.max_audio_s * SAMPLE_RATE) * SAMPLE_BYTES

    def refuses(self, size: int) -> bool:
        """Return whether a file of so many bytes is not to be read at all."""
        return self.call == "decode" and size > self.limits.max_bytes

    def text(self, file: OpenFile, sent: bool) -> str:
        """Return it as JSON; ``sent``: a descriptor of the file goes with it."""
        own = {"place": file.place, "size": file.size, "container": file.container, "sent": sent}
        own |= {"start_s": self.start_s, "end_s": self.end_s, "sparse": self.sparse}
        own |= {"speech": self.speech}
        return f"{json.dumps(own)[:-1]}, {_same(self.call, self.limits, self.choice)}"


@lru_cache(8)
def _same(call: str, limits: AudioLimits, choice: SoundChoice) -> str:
    """Return the half of a task's JSON that is the same for thousands of files."""
    return json.dumps({"call": call, "limits": json.loads(limits.model_dump_json()), "choice": asdict(choice)})[1:]


def task_of(utterance: Utterance, limits: AudioLimits = DEFAULT_LIMITS) -> Task:
    """Return the task of decoding an utterance: its stretch of its file's audio."""
    return Task(utterance.audio, "decode", limits, utterance.sound, utterance.start_s, utterance.end_s)


class Handed:
    """The files of some tasks, opened here, for a child that opens none. Those that cannot be opened are left out.

    ``tasks`` and their open ``files`` are those that a child is asked for.
    """

    def __init__(self, asked: Sequence[Task]) -> None:
        self.tasks: list[Task] = []
        self.files: list[OpenFile] = []
        self._sent: list[int | None] = []
        self._far: list[bool] = []
        self._ranges: dict[int, Ranges] = {}
        self._faults: list[DataError | None] = []
        try:
            for task in asked:
                try:
                    self._open(task)
                    self._faults.append(None)
                except DataError as error:
                    self._faults.append(error)
        except BaseException:
            self.close()
            raise

    def _open(self, task: Task) -> None:
        opened = open_source(task.source)
        try:
            sent = None if task.refuses(opened.size) else descriptor(opened.file, opened.size)
        except BaseException:
            opened.file.close()
            raise
        self.tasks.append(task)
        self.files.append(opened)
        self._sent.append(sent)
        self._far.append(sent is None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.file.close()
        self._close_sent()

    def _close_sent(self) -> None:
        while self._sent:
            sent = self._sent.pop()
            if sent is not None:
                os.close(sent)

    @property
    def on_disk(self) -> bool:
        """Return whether the child reads from a disk itself, which may make it wait."""
        return any(not isinstance(task.source, bytes) for task in self.tasks)

    def require(self) -> None:
        """Raise the DataError of the first file that cannot be opened."""
        for fault in self._faults:
            if fault is not None:
                raise fault

    def merged(self, results: Sequence[Kind]) -> list[Kind | DataError]:
        """Return the results of ``tasks`` with the faults of the others between them, as they were asked for."""
        left = iter(results)
        return [next(left) if fault is None else fault for fault in self._faults]

    def send(self, to: socket.socket, samples: int) -> None:
        """Ask for the tasks; what is decoded is to be written to the descriptor ``samples``."""
        whole = zip(self.tasks, self.files, self._sent, strict=True)
        asked = ", ".join(task.text(file, sent is not None) for task, file, sent in whole)
        body = f"[{asked}]".encode()
        frame = struct.pack("<I", len(body)) + body
        descriptors = [samples, *(each for each in self._sent if each is not None)]
        if left := frame[socket.send_fds(to, [frame], descriptors) :]:  # a child with all of it may already have ended
            to.sendall(left)
        self._close_sent()

    def answer(self, to: socket.socket, asked: object) -> Served:
        """Send what a child wants to read of a file that it has no descriptor of. Raises ValueError."""
        if not (isinstance(asked, list) and len(asked) == 3 and all(type(each) is int for each in asked)):
            raise ValueError("no range")
        number, offset, count = asked
        if not (0 <= number < len(self.files) and self._far[number]):
            raise ValueError("no file")
        file = self.files[number]
        return self._ranges.setdefault(number, Ranges(file.file, file.size)).answer(to, offset, count)


class Wait:
    """Waits for a child's frames: TimeoutError where no sample comes for long, or they come for too long.

    Whatever the child says in the meantime, and however slowly: what it has read before brings it no time either. Many
    tasks together may take as long as the longest of them may alone: if that is not enough, they are done one by one.

    ``watch``, where there is one, is told while it waits how far the only task has come, and may raise Stop.
    """

    def __init__(self, samples: int, tasks: Sequence[Task], stall_s: float, watch: Watch | None = None) -> None:
        self._file, self._stall_s, self._watch = samples, stall_s, watch
        self._look_s = min(stall_s / 10 if watch is None else LOOK_S, stall_s)
        self._written_ns, self._grown = os.fstat(samples).st_mtime_ns, time.monotonic()
        self._until = self._grown + stall_s + max((task.longest_s for task in tasks), default=0.0)
        self._frame_s = min(FRAME_S, stall_s)

    def frame(self, of: socket.socket) -> JsonObject:
        """Return the next frame. Raises as ``asr.io.messages.receive``, TimeoutError, and what ``watch`` raises."""
        while not readable(of.fileno(), min(self._look_s, self._until - time.monotonic())):
            self._check()
            self._look()
        message = receive(of, min(time.monotonic() + self._frame_s, self._until))
        of.settimeout(self._frame_s)
        if "read" in message:
            self._check()
        self._look()
        return message

    def _check(self) -> None:
        now, written_ns = time.monotonic(), os.fstat(self._file).st_mtime_ns
        if written_ns != self._written_ns:
            self._written_ns, self._grown = written_ns, now
        if now - self._grown >= self._stall_s or now > self._until:
            raise TimeoutError

    def _look(self) -> None:
        if self._watch is not None:
            self._watch(*progress(self._file))

    def go_on(self, served: Served) -> None:
        """Leave out of account the time that a storage took; what is read for the first time is as good as a sample."""
        self._until += served.seconds
        self._grown = time.monotonic() if served.new else self._grown + served.seconds
