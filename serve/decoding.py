"""Recordings decoded by child processes, one for each thread that asks: where one dies, so does only its request.

What a codec does wrong costs the file that made it do that: DataError ``decoder_died``, and another child. Samples come
back in memory that both processes share and that is given back piece by piece.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from asr.audio import AudioLimits
from asr.decoding_child import READY, receive, send
from asr.errors import DataError
from asr.sound import DEFAULT_CHOICE, SoundChoice, SoundReport
from asr.sounding import Stretch, written

DIED = "decoder_died"
STALL_S = 20.0  # without a sample, for what takes milliseconds; the buffer between holds 16 s of audio
STORAGE_STALL_S = 120.0  # the same of what lies at an address: storage has its own timeouts, and tries again
SOURCE_SAMPLES_PER_S = 4_000_000  # no codec is slower than this on a core; with it, the limits set the longest time
MEMORY_BYTES = 1 << 30  # on top of the interpreter's, and of an upload; samples are not in it
START_LIMIT_S = 120.0
LOOK_S = 0.02  # how often a decoding is looked at: half a minute of audio
STOP_S = 1.0

Watch = Callable[[int, int], None]
"""Is told how many samples there are of a recording so far, and how many bytes of memory they take."""


def unwatched(samples: int, nbytes: int) -> None:
    """Watch a decoding that may go on."""


_SAMPLE = np.dtype(np.float32)
_REPORT = TypeAdapter(SoundReport)


@dataclass(frozen=True)
class Decoded:
    """A recording: ``waveform`` [samples] at 16 kHz, as ``asr.audio.decode`` returns it, and what was found in it.

    Outside of ``stretches`` it is digital silence, which takes no memory until it is read.
    """

    waveform: np.ndarray
    report: SoundReport
    stretches: Sequence[Stretch]
    _memory: mmap.mmap

    def forget(self, samples: int) -> None:
        """Give back the memory of so many samples from the beginning, which nobody will read again."""
        whole = samples * _SAMPLE.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
        if whole:
            self._memory.madvise(mmap.MADV_REMOVE, 0, whole)


class Stop(Exception):
    """Raised by who watches a decoding: it goes no further, and the child is ready for the next."""


class Child:
    """A process that decodes one recording at a time. It ends with the thread that made it, or with ``close``.

    ``module`` is what runs in it, ``memory_bytes`` what it may take beyond what it begins with, ``stall_s`` how long it
    may bring nothing.
    """

    def __init__(
        self, module: str = "asr.decoding_child", memory_bytes: int = MEMORY_BYTES, stall_s: float = STALL_S
    ) -> None:
        self._stall_s = stall_s
        self._socket, theirs = socket.socketpair()
        # The name of the thread is for those who look at a list of processes.
        words = ["-P", "-m", module, str(theirs.fileno()), str(memory_bytes), threading.current_thread().name]
        # All of the path: a cluster's nodes find the packages where Ray put them. No threads: a codec needs none.
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        environment = os.environ | {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, *words], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
        )
        theirs.close()
        self.close = weakref.finalize(self, _end, self._process, self._socket)
        self._socket.settimeout(START_LIMIT_S)
        if receive(self._socket) != READY:  # EOFError: it has said on standard error why it does not start
            raise RuntimeError(f"{module} does not begin as it should")
        self._socket.settimeout(stall_s)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.close.alive and self._process.poll() is None

    def decode(
        self,
        source: bytes | str | Path,
        limits: AudioLimits,
        choice: SoundChoice = DEFAULT_CHOICE,
        watch: Watch = unwatched,
    ) -> Decoded:
        """Decode the chosen sound of a recording within ``limits``; ``watch`` is told how far it has come.

        Raises DataError as ``asr.audio.decode`` does, or with the reason decoder_died; then this child is closed. And
        the Stop that ``watch`` raises.
        """
        place = "uploaded bytes" if isinstance(source, bytes) else str(source)
        try:
            return self._decode(source, limits, choice, watch)
        except TimeoutError:
            what = "took too long"
        except (OSError, EOFError, ValueError, KeyError):  # the last two: it answers nonsense
            what = _end_of(self._process)
        except (DataError, Stop):
            raise
        except BaseException:
            self.close()
            raise
        self.close()
        raise DataError(DIED, f"{place}: decoding {what}")

    def _decode(self, source: bytes | str | Path, limits: AudioLimits, choice: SoundChoice, watch: Watch) -> Decoded:
        upload = source if isinstance(source, bytes) else b""
        path, stall_s = (None, self._stall_s) if isinstance(source, bytes) else (str(source), STORAGE_STALL_S)
        asked = {"limits": json.loads(limits.model_dump_json()), "choice": asdict(choice)}
        send(self._socket, {"path": path, "bytes": len(upload), **asked})
        self._socket.sendall(upload)
        file = os.memfd_create("waveform", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            socket.send_fds(self._socket, [b"\0"], [file])
            self._wait(file, stall_s, limits, watch)
            answer = receive(self._socket)
            watch(*_progress(file))
            if "bug" in answer:
                raise RuntimeError(str(answer["bug"]))
            if "reason" in answer:
                raise DataError(str(answer["reason"]), str(answer["detail"]))
            return _mapped(file, _report(answer["report"]))
        finally:
            os.close(file)

    def _wait(self, file: int, stall_s: float, limits: AudioLimits, watch: Watch) -> None:
        """Wait for the answer. Raises TimeoutError where no sample comes for long, or too many do, or a Stop."""
        written, grown = 0, time.monotonic()
        until = grown + stall_s + limits.max_source_samples / SOURCE_SAMPLES_PER_S
        while not select.select([self._socket], [], [], min(LOOK_S, stall_s))[0]:
            before, now = written, time.monotonic()
            written, nbytes = _progress(file)
            grown = now if written > before else grown
            if now - grown > stall_s or now > until:
                raise TimeoutError
            try:
                watch(written, nbytes)
            except Stop:
                self._stop(file)
                raise

    def _stop(self, file: int) -> None:
        """Let the child write no more, and wait for its answer to that; one that goes on all the same is closed."""
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
        self._socket.settimeout(STOP_S)
        try:
            receive(self._socket)
            self._socket.settimeout(self._stall_s)
        except (OSError, EOFError, ValueError):
            self.close()


_own = threading.local()


def decode(
    source: bytes | str | Path, limits: AudioLimits, choice: SoundChoice = DEFAULT_CHOICE, watch: Watch = unwatched
) -> Decoded:
    """Decode a recording in the child of this thread, as ``Child.decode``; the first call starts one."""
    return own().decode(source, limits, choice, watch)


def own() -> Child:
    """Return the child of this thread, a new one where it died or never was."""
    child: Child | None = getattr(_own, "child", None)
    if child is None or not child.alive:
        child = _own.child = Child()
    return child


def _progress(file: int) -> tuple[int, int]:
    """Return how many samples a file holds, and how many bytes of memory they take: holes take none."""
    state = os.fstat(file)
    return state.st_size // _SAMPLE.itemsize, state.st_blocks * 512


def _report(answer: object) -> SoundReport:
    """Return the report that a child has sent. Raises ValueError for one that is none: the child may be anybody's."""
    try:
        return _REPORT.validate_python(answer)
    except ValidationError as error:
        raise ValueError(str(error)) from None


def _mapped(file: int, report: SoundReport) -> Decoded:
    """Return what a child has written. It keeps no power over it: the file can no longer be cut under us."""
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    if not 0 < report.samples * _SAMPLE.itemsize <= os.fstat(file).st_size:
        raise ValueError(f"{report.samples} samples")
    memory = mmap.mmap(file, report.samples * _SAMPLE.itemsize)
    return Decoded(np.frombuffer(memory, _SAMPLE), report, written(file, report.samples), memory)


def _end_of(process: subprocess.Popen[bytes]) -> str:
    """Say how a child came to its end."""
    try:
        code = process.wait(1.0)
    except subprocess.TimeoutExpired:
        return "answered nonsense"
    if code == os.EX_UNAVAILABLE:
        return "took too much memory"
    return f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()
