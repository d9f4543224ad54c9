"""Child process in which strangers' files are parsed: a codec that crashes, or does worse, harms nothing else.

    python -m asr.audio.sandbox_child SOCKET MEMORY_BYTES

This is a process that forks them, and reads nothing that a stranger wrote. ``SOCKET`` is the descriptor of a Unix
socket (SEQPACKET). Everything is imported and used once, then it says that it is ready, and what of its confinement the
kernel does not give. A message is the id of a child whose time is over (0: none): that one is killed, and the answer is
how it ended, the id of a new child, and the socket to that. No process parses two strangers' files.

A child confines itself, says that it is ready, does what it is asked once, and ends. It is asked for one or more tasks
together: a frame with a list; each says what is to be done (``call``), the name and size of the file, the ``limits``,
the ``choice`` of track and channel and the stretch. With the frame come descriptors: of a file for the samples of all,
float32 at 16 kHz, and of the recordings. Of one that is not ``sent``, ranges are asked for. A frame answers: of each
what was ``found`` and, where it was asked for, the stretches of ``speech``; or the ``reason`` and ``detail`` of a
DataError, or the traceback of a ``bug``. The process ends with its parent.
"""

from __future__ import annotations

import array
import gc
import io
import json
import os
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import BinaryIO, NoReturn, Protocol, cast

import numpy as np
import numpy.char  # one of those that NumPy loads when they are first used, which is too late here
from numpy.typing import NDArray

from asr.audio.container import OpenFile, Source
from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode_to, encode_flac
from asr.audio.probe import Header, Length, header, probe
from asr.audio.sandbox_speech import speech_in
from asr.audio.sandbox_task import Task
from asr.audio.shared_samples import memory
from asr.audio.sounding import put, put_sparsely
from asr.audio.vad import speech
from asr.errors import DataError
from asr.io.confinement import MAX_OPEN_FILES, bounds, confine, end_with_parent, restrict
from asr.io.messages import ASKED, BORN, read, send
from asr.io.ranges import buffered
from asr.parsed import JsonObject
from asr.sound import SoundChoice, SoundReport

BUFFER_SAMPLES = 1 << 18  # 1 MB, 16 s
FRAME_BYTES = 1 << 14  # of most requests
_FLAC = encode_flac(np.zeros(SAMPLE_RATE // 10, np.float32))
_SOUND = (0.1 * np.sin(np.arange(SAMPLE_RATE // 10) / 10)).astype(np.float32)


class Decode(Protocol):
    """A function that decodes as ``decode_to`` does."""

    def __call__(
        self,
        sink: Callable[[NDArray[np.float32]], object],
        source: Source,
        *,
        limits: AudioLimits,
        choice: SoundChoice,
        start_s: float,
        end_s: float | None,
    ) -> SoundReport: ...


class SampleSink:
    """Collects blocks of samples and writes them to a file, megabyte by megabyte, digital silence as holes if asked."""

    def __init__(self) -> None:
        self._buffer, self._held, self._file, self._offset = np.empty(BUFFER_SAMPLES, np.float32), 0, -1, 0
        self._sparse = False

    def begin(self, file: int, offset: int, sparse: bool = False) -> None:
        """Write what comes now to a descriptor, from a byte on."""
        self._file, self._held, self._offset, self._sparse = file, 0, offset, sparse

    def __call__(self, block: NDArray[np.float32]) -> None:
        """Take a block of any length."""
        while len(block):
            part = block[: BUFFER_SAMPLES - self._held]
            self._buffer[self._held : self._held + len(part)] = part
            self._held += len(part)
            block = block[len(part) :]
            if self._held == BUFFER_SAMPLES:
                self.flush()

    def flush(self) -> int:
        """Write what has been collected, and return at which byte that ends."""
        collected, self._held = self._buffer[: self._held], 0
        write = put_sparsely if self._sparse else put
        self._offset = write(self._file, collected, self._offset)
        return self._offset


def main(decode: Decode = decode_to) -> None:
    """Answer until the parent has gone. ``decode`` is for tests that need one that fails."""
    end_with_parent()
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        samples = SampleSink()
        _warm_up(samples)
        gc.collect()
        gc.freeze()  # what children never look at stays memory that all share
        most = bounds(int(sys.argv[2]))
        parent.send(json.dumps({"ready": True, "missing": restrict()}).encode())
        while asked := parent.recv(ASKED.size):
            (over,) = ASKED.unpack(asked)
            status = _ended(over) if over else 0
            ours, theirs = socket.socketpair()
            with ours, theirs:
                pid = os.fork()
                if not pid:
                    _child((parent, ours), partial(_once, theirs, most, samples, decode))
                socket.send_fds(parent, [BORN.pack(status, pid)], [ours.fileno()])


def _ended(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _child(not_mine: Sequence[socket.socket], work: Callable[[], None]) -> NoReturn:
    """Do what a child does, in a process that has just been forked, and end it."""
    status = 1
    try:
        forker = os.getppid()
        end_with_parent()
        if os.getppid() == forker:
            for each in not_mine:
                each.close()
            work()
            status = 0
    except (EOFError, ConnectionError):
        status = 0
    finally:
        os._exit(status)


def _once(parent: socket.socket, most: Mapping[int, int], samples: SampleSink, decode: Decode) -> None:
    missing = confine(most)
    _rehearse(samples)
    send(parent, {"ready": True, "missing": missing})
    tasks, descriptors = _request(parent)
    send(parent, {"answers": _answers(parent, tasks, descriptors, samples, decode)})


def _request(parent: socket.socket) -> tuple[list[JsonObject], Sequence[int]]:
    """Return the next tasks and the descriptors that came with them."""
    data, sent, _, _ = parent.recvmsg(FRAME_BYTES, socket.CMSG_SPACE(MAX_OPEN_FILES * struct.calcsize("i")))
    if not data:
        raise EOFError
    descriptors = array.array("i")
    for _, _, some in sent:
        descriptors.frombytes(some)
    data += read(parent, max(4 - len(data), 0))
    (length,) = struct.unpack_from("<I", data)
    return json.loads(data[4:] + read(parent, 4 + length - len(data))), descriptors


def _answers(
    parent: socket.socket,
    tasks: Sequence[JsonObject],
    descriptors: Sequence[int],
    samples: SampleSink,
    decode: Decode,
) -> list[dict[str, object]]:
    written, left = 0, iter(descriptors[1:])
    answers: list[dict[str, object]] = []
    for number, task in enumerate(tasks):
        samples.begin(descriptors[0], written, task["sparse"])
        try:
            with _file(parent, number, task["size"], next(left) if task["sent"] else None) as file:
                source = OpenFile(task["place"], file, task["size"], task["container"])
                found = _done(task, source, samples, decode)
            written = samples.flush()
            answer: dict[str, object] = {"found": None if found is None else _fields(found)}
            if task["speech"] and isinstance(found, SoundReport):
                answer["speech"] = speech_in(descriptors[0], found.samples)
            answers.append(answer)
        except DataError as error:
            answers.append({"reason": error.reason, "detail": error.detail})
        except MemoryError:
            os._exit(os.EX_UNAVAILABLE)  # what is left of this process is not worth keeping
        except Exception:
            answers.append({"bug": traceback.format_exc()})
    return answers


def _fields(found: SoundReport | Header | Length) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__match_args__}  # all are plain; asdict copies them deeply


def _file(parent: socket.socket, number: int, size: int, descriptor: int | None) -> BinaryIO:
    return buffered(parent, number, size) if descriptor is None else os.fdopen(descriptor, "rb", closefd=False)


def _done(
    task: JsonObject, source: OpenFile, samples: SampleSink, decode: Decode
) -> SoundReport | Header | Length | None:
    choice = SoundChoice(**task["choice"])
    if task["call"] != "decode":
        return (header if task["call"] == "header" else probe)(source, choice=choice)
    limits = AudioLimits.model_validate(task["limits"])
    return decode(samples, source, limits=limits, choice=choice, start_s=task["start_s"], end_s=task["end_s"])


def _rehearse(samples: SampleSink) -> None:
    """Decode a clip of our own and judge one: memory that the child changes is copied before anybody waits for it."""
    file = OpenFile("", io.BytesIO(_FLAC), len(_FLAC), None)
    samples.begin(-1, 0)
    _fields(cast(SoundReport, _done(json.loads(Task(b"").text(file, True)), file, samples, decode_to)))
    speech(_SOUND)


def _warm_up(samples: SampleSink) -> None:
    """Do once what will be asked for: what is imported or set up late cannot be any more."""
    ours, theirs = socket.socketpair()
    with ours, theirs, memory() as out:
        for call in ("decode", "header", "probe"):
            for content, container in ((_FLAC, None), (b"no audio", None), (bytes(400), "g722")):
                file = OpenFile("", io.BytesIO(content), len(content), container)
                task = json.loads(Task(b"", call, speech=call == "decode", sparse=True).text(file, True))
                with memory() as sound:
                    os.write(sound, content)
                    _answers(ours, [task], [out, sound], samples, decode_to)


if __name__ == "__main__":
    main()
