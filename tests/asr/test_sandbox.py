from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import psutil
import pytest

from asr import sandbox
from asr.audio import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.decoded import Decoded
from asr.errors import DataError
from asr.sandbox import Child, own
from asr.sandbox_task import Stop
from tests.asr.sounds import wav16
from tests.serve.expendable import ABORT, FAIL, LIE, LIMITS, MEMORY_LIMIT_BYTES, STALL, SWELL
from tests.serve.fakes import noise

TWO_S = noise(2.0)


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


@pytest.fixture
def weak() -> Iterator[Child]:
    """A child that aborts, stalls and so on where the upload says so."""
    made = Child("tests.serve.expendable", MEMORY_LIMIT_BYTES, stall_s=2.0)
    yield made
    made.close()


def test_it_decodes_what_decoding_here_does(child: Child, tmp_path: Path) -> None:
    file = tmp_path / "two.flac"
    file.write_bytes(TWO_S)
    for source in (TWO_S, file, str(file)):
        waveform = child.decode(source, LIMITS).waveform
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, decode(TWO_S))


@pytest.mark.parametrize(
    ("data", "reason"), [(b"no audio", "not_audio"), (b"", "empty_file"), (noise(31.0), "too_long")]
)
def test_what_is_wrong_with_a_recording_is_said_in_the_same_words(child: Child, data: bytes, reason: str) -> None:
    with pytest.raises(DataError) as there:
        child.decode(data, LIMITS)
    with pytest.raises(DataError) as here:
        decode(data, limits=LIMITS)
    assert there.value.args == here.value.args and there.value.reason == reason
    assert len(child.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("upload", "how"),
    [
        (ABORT, "ended with SIGABRT"),
        (STALL, "took too long"),
        (SWELL, "took too much memory"),
        (LIE, "answered nonsense"),
    ],
)
def test_a_child_that_dies_says_how_and_is_closed(weak: Child, upload: bytes, how: str) -> None:
    assert len(weak.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE
    with pytest.raises(DataError) as raised:
        weak.decode(upload, LIMITS)
    assert (raised.value.reason, raised.value.detail) == ("decoder_died", f"uploaded bytes: decoding {how}")
    assert not weak.alive


def test_silence_takes_no_memory_and_sound_between_them_is_found(child: Child) -> None:
    long = np.zeros(600 * SAMPLE_RATE, np.float32)
    long[1_000_000:1_100_000] = decode(noise(6.25))
    decoded = child.decode(encode_flac(long), AudioLimits(max_audio_s=4000.0))
    [(start, end)] = decoded.stretches
    assert start <= 1_000_000 < 1_100_000 <= end and end - start < 200_000
    np.testing.assert_array_equal(decoded.waveform[start:end], long[start:end])
    assert len(decoded.waveform) == len(long)


def test_who_watches_sees_it_come_and_may_stop_it_and_the_child_goes_on(child: Child) -> None:
    long, seen = encode_flac(np.tile(decode(noise(30.0)), 120)), list[int]()

    def watch(samples: int, nbytes: int) -> None:
        seen.append(samples)
        if samples > 600 * SAMPLE_RATE:
            raise Stop

    limits = AudioLimits(max_audio_s=4000.0)
    with pytest.raises(Stop):
        child.decode(long, limits, watch=watch)
    assert seen == sorted(seen) and 600 * SAMPLE_RATE < seen[-1] < 3600 * SAMPLE_RATE
    assert child.alive
    assert len(child.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE


def test_a_child_that_does_not_stop_is_closed(weak: Child) -> None:
    def watch(samples: int, nbytes: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        weak.decode(STALL, LIMITS, watch=watch)
    assert not weak.alive


def test_a_bug_of_ours_keeps_its_traceback(weak: Child) -> None:
    with pytest.raises(RuntimeError, match=r"Traceback(.|\n)*KeyError: 'a bug'"):
        weak.decode(FAIL, LIMITS)


def test_killed_in_mid_decode_it_costs_this_request_only(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        doomed = pool.submit(child.decode, TWO_S, LIMITS)
        while not waveforms(os.getpid()):
            pass
        neighbour = pool.submit(sandbox.decode, TWO_S, LIMITS)
        assert len(neighbour.result().waveform) == 2 * SAMPLE_RATE
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(DataError, match="decoding ended with SIGKILL"):
            doomed.result()


def waveforms(pid: int) -> int:
    """How many recordings a process has in its hands, or is waiting for: it opens them when all has been sent."""
    count = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += "memfd:waveform" in os.readlink(link)
    return count


def test_one_that_dies_while_nothing_is_asked_is_replaced_unnoticed() -> None:
    first = own()
    os.kill(first.pid, signal.SIGKILL)
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    assert len(sandbox.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE
    assert own() is not first and own() is own()


def test_each_thread_has_its_own_which_ends_with_it() -> None:
    pids = []
    thread = threading.Thread(target=lambda: pids.append(own().pid), name="a thread of mine")
    thread.start()
    thread.join()
    assert own().pid not in pids
    while Path(f"/proc/{pids[0]}").exists():
        pass
    assert b"MainThread" in Path(f"/proc/{own().pid}/cmdline").read_bytes()


def test_it_ends_with_its_parent_even_in_mid_decode() -> None:
    code = (
        "import os, signal, threading\n"
        "from asr.sandbox import Child\n"
        "from tests.serve.expendable import LIMITS, STALL\n"
        "child = Child('tests.serve.expendable')\n"
        "threading.Thread(target=child.decode, args=(STALL, LIMITS), daemon=True).start()\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin and parent.stdout
        status = Path(f"/proc/{int(parent.stdout.readline())}/status")
        assert "sleeping" in status.read_text() or status.exists()
        parent.stdin.write(b"\n")
    while status.exists() and "zombie" not in status.read_text():
        pass


def test_memory_is_given_back_piece_by_piece(child: Child) -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0.0, 0.1, 60 * SAMPLE_RATE).astype(np.float32)
    decoded = child.decode(encode_flac(sound), AudioLimits())
    decoded.waveform.sum()  # pages that were never touched count for nothing
    before = held(decoded)
    last = decoded.waveform[-16_000:].copy()
    decoded.forget(30 * SAMPLE_RATE)
    assert held(decoded) == pytest.approx(before / 2, rel=0.01)
    decoded.forget(59 * SAMPLE_RATE)
    assert held(decoded) < before / 50
    np.testing.assert_array_equal(decoded.waveform[-16_000:], last)


def held(decoded: Decoded) -> int:
    """Bytes of the waveform that take memory."""
    start = f"{decoded.waveform.ctypes.data:x}-"
    maps = Path("/proc/self/smaps").read_text().split(start)[1]
    return int(maps.split("Rss:")[1].split()[0]) * 1024


def test_a_child_that_cannot_begin_is_no_fault_of_the_file(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EOFError):
        Child("asr.no_such_module")
    assert "no_such_module" in capfd.readouterr().err


def children(kind: str) -> list[psutil.Process]:
    """The decoding processes of the real endpoint's ingress."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            words, parent = process.cmdline(), process.parent()
            if "asr.sandbox_child" in words and words[-1].startswith(f"prepare-{kind}"):
                found += [process] if parent and "ServeReplica:whisperfleet:Api" in "".join(parent.cmdline()) else []
    return found


def test_over_http_a_decoder_that_dies_costs_its_own_request(client: openai.OpenAI, flacs: list[bytes]) -> None:
    def ask(audio: bytes) -> str:
        return client.audio.transcriptions.create(model="tiny", file=("a", audio), language="en").text

    texts = [ask(flac) for flac in flacs[:2]]
    while len(victims := children("short")) < 2:  # they were started with the endpoint
        pass
    ingress = victims[0].parent()
    assert ingress
    for victim in victims:
        victim.suspend()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(ask, flac) for flac in flacs[:2]]
        while waveforms(ingress.pid) < 2:
            pass
        assert ask(wav16(np.tile(decode(flacs[0]), 12)[: 45 * SAMPLE_RATE], SAMPLE_RATE))  # long: by other threads
        victims[0].kill()
        victims[1].resume()
        errors = [each.exception() for each in asked]
    [error] = filter(None, errors)
    assert isinstance(error, openai.BadRequestError) and (error.code, error.param) == ("decoder_died", "file")
    assert "decoding ended with SIGKILL" in error.message
    spared = errors.index(None)
    assert asked[spared].result() == texts[spared]
    assert [ask(flac) for flac in flacs[:2]] == texts
