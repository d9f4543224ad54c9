from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from asr.audio import sandbox
from asr.audio.decode import SAMPLE_RATE, AudioLimits, decode, encode_flac
from asr.audio.probe import header, probe
from asr.audio.sandbox import Child, own
from asr.audio.sandbox_answers import DIED
from asr.audio.sandbox_task import Stop, Task
from asr.audio.shared_samples import Decoded
from asr.errors import DataError
from asr.io import storage
from asr.io.confined_process import tell
from asr.sound import SoundChoice
from asr.utterance import Utterance
from tests.asr.sounds import encoded, tone, wav16
from tests.serve.expendable import ABORT, FAIL, LIE, LIMITS, MEMORY_LIMIT_BYTES, STALL, SWELL
from tests.serve.fakes import noise

pytestmark = pytest.mark.medium

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


def test_silence_takes_no_memory_and_sound_between_them_is_found(child: Child) -> None:
    long = np.zeros(600 * SAMPLE_RATE, np.float32)
    long[1_000_000:1_100_000] = decode(noise(6.25))
    decoded = child.decode(encode_flac(long), AudioLimits(max_audio_s=4000.0))
    [(start, end)] = decoded.stretches
    assert start <= 1_000_000 < 1_100_000 <= end and end - start < 200_000
    np.testing.assert_array_equal(decoded.waveform[start:end], long[start:end])
    assert len(decoded.waveform) == len(long)


def test_who_watches_sees_it_come_and_may_stop_it_and_the_child_goes_on(child: Child) -> None:
    long, seen = encode_flac(np.tile(decode(noise(30.0)), 30)), list[int]()

    def watch(samples: int, nbytes: int) -> None:
        seen.append(samples)
        if samples > 60 * SAMPLE_RATE:
            raise Stop

    limits = AudioLimits(max_audio_s=4000.0)
    with pytest.raises(Stop):
        child.decode(long, limits, watch=watch)
    assert seen == sorted(seen) and 60 * SAMPLE_RATE < seen[-1] < 900 * SAMPLE_RATE
    assert child.alive
    assert len(child.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE


def test_a_child_that_does_not_stop_is_closed(weak: Child) -> None:
    def watch(samples: int, nbytes: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        weak.decode(STALL, LIMITS, watch=watch)


def test_a_bug_of_ours_costs_its_file_and_keeps_its_traceback(weak: Child, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"decoder_died: .* a bug of ours"):
        weak.decode(FAIL, LIMITS)
    assert re.search(r"Traceback.*KeyError: 'a bug'", caplog.text)
    assert len(weak.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE


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
    assert first._forker._worker[0].gone(60.0)
    assert len(sandbox.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE
    assert own() is first
    os.kill(first.forker, signal.SIGKILL)
    os.waitid(os.P_PID, first.forker, os.WEXITED | os.WNOWAIT)
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


@pytest.mark.slow
def test_it_ends_with_its_parent_even_in_mid_decode() -> None:
    code = (
        "import os, signal, threading\n"
        "from asr.audio.sandbox import Child\n"
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


@pytest.mark.parametrize(("seconds", "waits"), [(1, False), (40, True)])
def test_samples_that_are_not_copied_are_looked_at_only_when_their_writer_has_gone(
    child: Child, monkeypatch: pytest.MonkeyPatch, seconds: int, waits: bool
) -> None:
    asked = []
    over = child._forker.over
    monkeypatch.setattr(child._forker, "over", lambda gone=True: (asked.append(gone), over(gone)))
    sound = np.random.default_rng(0).normal(0.0, 0.1, seconds * SAMPLE_RATE).astype(np.float32)
    assert len(child.decode(encode_flac(sound), AudioLimits()).waveform) == len(sound)
    assert asked == [waits]


def held(decoded: Decoded) -> int:
    """Bytes of the waveform that take memory."""
    start = f"{decoded.waveform.ctypes.data:x}-"
    maps = Path("/proc/self/smaps").read_text().split(start)[1]
    return int(maps.split("Rss:")[1].split()[0]) * 1024


def test_a_child_that_cannot_begin_is_no_fault_of_the_file(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EOFError):
        Child("asr.no_such_module")
    assert "no_such_module" in capfd.readouterr().err


KINDS = [
    ("flac", "flac"),
    ("libmp3lame", "mp3"),
    ("libmp3lame", "avi"),
    ("aac", "adts"),
    ("aac", "mp4"),
    ("libopus", "ogg"),
    ("wavpack", "wv"),
    ("alac", "mov"),
    ("wmav2", "asf"),
    ("aac", "flv"),
    ("ac3", "mpegts"),
    ("adpcm_ima_wav", "wav"),
    ("g722", "g722"),
    ("flac", "matroska"),
]


def test_every_kind_of_file_needs_nothing_that_is_forbidden(child: Child, tmp_path: Path) -> None:
    """NumPy loads parts of itself late (AVI's index), and WavPack starts threads."""
    for codec, container in KINDS:
        rate = 16_000 if codec == "g722" else 48_000
        path = encoded(tmp_path / f"a.{container}", tone(3.0, rate), codec, container, rate)
        for start_s, end_s in ((0.0, None), (1.0, 2.0)):
            [there] = child.each([Task(path, start_s=start_s, end_s=end_s)])
            assert isinstance(there, np.ndarray), f"{codec} in {container}: {there}"
            np.testing.assert_array_equal(there, decode(path, start_s=start_s, end_s=end_s))
        assert child.each([Task(path, "header"), Task(path, "probe")]) == [header(path), probe(path)]


def test_many_are_asked_for_in_one_go_and_each_has_its_own_fault(weak: Child, tmp_path: Path) -> None:
    short = encode_flac(np.full(800, 0.1, np.float32))
    tasks = [Task(TWO_S), Task(b"no audio"), Task(tmp_path / "gone"), Task(FAIL), Task(TWO_S, "header"), Task(short)]
    sound, *faults, head, last = weak.each(tasks)
    assert isinstance(sound, np.ndarray) and len(sound) == 2 * SAMPLE_RATE
    assert [fault.reason for fault in faults if isinstance(fault, DataError)] == ["not_audio", "missing_file", DIED]
    assert head == header(TWO_S)
    assert isinstance(last, np.ndarray) and np.array_equal(last, decode(short))


def test_one_that_kills_the_child_costs_no_other_of_those_asked_for_with_it(crashing: bytes) -> None:
    results = sandbox.each([Task(TWO_S), Task(crashing)] + [Task(TWO_S, "header")] * 40)
    assert isinstance(results[0], np.ndarray)
    assert isinstance(results[1], DataError) and results[1].detail == "uploaded bytes: decoding ended with SIGABRT"
    assert results[2:] == [header(TWO_S)] * 40


def test_what_lies_in_a_storage_is_read_by_who_has_the_keys(child: Child, s3: str) -> None:
    small, large = noise(2.0), wav16(np.tile(decode(TWO_S), 40), SAMPLE_RATE)  # 2.5 MB: by ranges
    for name, content in (("small.flac", small), ("large.wav", large)):
        storage.write_bytes(storage.join(s3, name), content)
        for start_s in (0.0, 1.25):
            [there] = child.each([Task(storage.join(s3, name), start_s=start_s)])
            assert isinstance(there, np.ndarray)
            np.testing.assert_array_equal(there, decode(content, start_s=start_s))
    assert isinstance(child.each([Task(storage.join(s3, "gone.wav"))])[0], DataError)


def test_what_the_kernel_does_not_give_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        tell(("landlock (no files): Function not implemented",))
        tell(())
    [record] = caplog.records
    assert "less confinement" in record.message and "landlock" in record.message


def test_an_utterance_is_its_stretch_of_its_sound(tmp_path: Path) -> None:
    path = encoded(tmp_path / "two.wav", decode(TWO_S), "pcm_s16le", "wav", SAMPLE_RATE, "stereo")
    utterance = Utterance("a", str(path), "hm", start_s=0.5, end_s=1.5, sound=SoundChoice(channel="right"))
    expected = decode(path, start_s=0.5, end_s=1.5, choice=utterance.sound)
    [both] = sandbox.with_headers([utterance], AudioLimits())
    assert isinstance(both, tuple) and both[0] == header(path)
    decoded = sandbox.decode_utterances([utterance], AudioLimits())
    for there in (both[1], sandbox.decode_utterance(utterance), *decoded):
        assert isinstance(there, np.ndarray)
        np.testing.assert_array_equal(there, expected)
    with pytest.raises(DataError, match="too_long"):
        sandbox.decode_utterance(utterance, AudioLimits(max_audio_s=0.5))
    assert sandbox.headers([utterance]) == [header(path)] and sandbox.probes([utterance]) == [probe(path)]


def test_many_long_recordings_asked_for_together_were_all_in_memory_at_once(trips: list[int], crashing: bytes) -> None:
    long = encode_flac(np.tile(decode(TWO_S), 32))
    sources = {"short": TWO_S, "long": long, "none": b"no audio", "longer": long * 1, "crash": crashing, "last": TWO_S}
    rows = [Utterance(name, source) for name, source in sources.items()]
    alone = [next(sandbox.decode_utterances([row], AudioLimits())) for row in rows]
    trips.clear()
    lazily = sandbox.decode_utterances(rows, AudioLimits())
    together = [next(lazily)]
    assert trips == [6] + [1] * 6  # one of them kills its process
    together += lazily
    assert trips[7:] == [1, 1]  # each long one, when it is its turn
    for one, other in zip(alone, together, strict=True):
        if isinstance(one, DataError):
            assert isinstance(other, DataError) and (one.reason, one.detail) == (other.reason, other.detail)
        else:
            np.testing.assert_array_equal(one, other)
    faults = [sound.reason for sound in together if isinstance(sound, DataError)]
    assert faults == ["not_audio", DIED]
    [refused] = sandbox.decode_utterances(rows[1:2], AudioLimits(max_audio_s=62.0))
    assert isinstance(refused, DataError) and "over 62 s" in refused.detail


def test_a_process_with_a_thousand_connections_decodes() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < 1024:
            taken.append(os.dup(taken[0]))
        made = Child()
        assert len(made.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE
        made.close()
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_requests_failed_where_what_forks_the_decoders_was_killed() -> None:
    for _ in range(5):
        os.kill(own().forker, signal.SIGKILL)
        assert len(sandbox.decode(TWO_S, LIMITS).waveform) == 2 * SAMPLE_RATE
        os.kill(own().forker, signal.SIGKILL)
        assert sandbox.each([Task(TWO_S, "header")] * 3) == [header(TWO_S)] * 3


def test_an_answer_is_none_the_worse_for_the_end_of_what_forked_it() -> None:
    killed: list[int] = []

    def kill(samples: int, nbytes: int) -> None:
        if not killed:
            killed.append(own().forker)
            os.kill(killed[0], signal.SIGKILL)

    for _ in range(2):  # whether it has ended may be seen only when the next one asks
        assert len(sandbox.decode(TWO_S, LIMITS, watch=kill).waveform) == 2 * SAMPLE_RATE
    assert own().forker not in killed
