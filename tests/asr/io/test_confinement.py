"""Attacks by a codec that was taken over, each in the real child (``tests.asr.hostile``)."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.audio.limits import AudioLimits
from asr.audio.sandbox import MEMORY_BYTES, Child
from asr.audio.sandbox_task import Stop, Task
from asr.errors import DataError
from asr.io.confinement import ENVIRONMENT, Allowance, environment

LIMITS = AudioLimits(max_audio_s=30.0, max_source_samples=5_000_000)
FLAC = encode_flac(np.zeros(SAMPLE_RATE, np.float32))
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s3cret-1",
    "HF_TOKEN": "s3cret-2",
    "WHISPERFLEET_KEYS": "s3cret-3",
    "GOOGLE_APPLICATION_CREDENTIALS": "/s3cret-4.json",
    "RAY_ADDRESS": "s3cret-5",
    "OPENAI_API_KEY": "s3cret-6",
}


def started(memory_bytes: int = MEMORY_BYTES, stall_s: float = 20.0) -> Child:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        return Child("tests.asr.hostile", memory_bytes, stall_s)


@pytest.fixture(scope="module")
def hostile() -> Iterator[Child]:
    """A child that must outlive all attacks that are merely refused."""
    child = started()
    yield child
    assert len(child.decode(FLAC, LIMITS).waveform) == SAMPLE_RATE  # it is as good as new
    child.close()


def attack(child: Child, name: str, argument: object = "", limits: AudioLimits = LIMITS) -> DataError:
    with pytest.raises(DataError) as raised:
        child.decode(f"ATTACK {name} {argument}".encode(), limits)
    return raised.value


@pytest.mark.medium
def test_no_secret_of_the_environment_is_in_the_child(hostile: Child) -> None:
    assert "PATH" in attack(hostile, "environment", "PATH").detail.split()
    assert attack(hostile, "environment", "s3cret").detail == ""
    left = Path(f"/proc/{hostile.pid}/environ").read_bytes()
    assert b"PYTHONPATH" in left and b"s3cret" not in left


def test_the_environment_is_a_list_of_what_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("A_KEY_OF_A_SERVICE_TO_COME", "secret")
    given = environment("/a:/b")
    assert given["LANG"] == "C.UTF-8" and given["PYTHONPATH"] == "/a:/b" and given["OMP_NUM_THREADS"] == "1"
    assert set(given) - ENVIRONMENT == {"PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}


@pytest.mark.medium
@pytest.mark.parametrize("name", ["read_file", "read_file_by_call"])
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/{parent}/environ", "{folder}/mine"])
def test_a_file_of_the_machine_cannot_be_read(hostile: Child, name: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("secret")
    place = path.format(parent=os.getpid(), folder=tmp_path)
    assert Path(place).read_bytes()
    assert attack(hostile, name, place).reason == "refused"


@pytest.mark.medium
def test_no_file_can_be_written_or_removed(hostile: Child, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("mine")
    for name, path in (("write_file", kept), ("write_file", tmp_path / "new"), ("remove_file", kept)):
        assert attack(hostile, name, path).reason == "refused"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_the_recording_itself_cannot_be_written(hostile: Child, tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_bytes(b"ATTACK overwrite ")
    with pytest.raises(DataError, match=r"did_it: [0-9]"):  # the file for samples: it is there for that
        hostile.decode(path, LIMITS)
    assert path.read_bytes() == b"ATTACK overwrite "


def test_nobody_can_be_called(hostile: Child, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        assert attack(hostile, "connect", listener.getsockname()[1]).reason == "refused"
        assert attack(hostile, "connect_unix", tmp_path / "socket").reason == "refused"
        assert attack(hostile, "pair").reason == "refused"
        for each in (listener, local):
            each.settimeout(0)
            with pytest.raises(BlockingIOError):
                each.accept()


@pytest.mark.parametrize("name", ["fork", "execute", "spawn", "thread"])
def test_no_process_or_thread_can_be_started(hostile: Child, name: str) -> None:
    assert attack(hostile, name).reason == "refused"


@pytest.mark.parametrize("name", ["trace", "peek", "kill", "kill_by_thread"])
def test_the_parent_cannot_be_killed_or_looked_into(hostile: Child, name: str) -> None:
    met: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: met.append(number))
    try:
        assert attack(hostile, name).reason == "refused"
        time.sleep(0)
        assert not met
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", ["io_uring", "machine_code", "raise_limit"])
def test_what_could_lead_out_of_it_is_refused(hostile: Child, name: str) -> None:
    assert attack(hostile, name).reason == "refused"


@pytest.mark.medium
def test_a_call_of_another_table_ends_the_child() -> None:
    child = started()
    found = attack(child, "i_am_32_bit")
    assert found.reason in ("decoder_died", "refused")  # refused: a kernel without that table
    assert found.reason == "refused" or found.detail.endswith("decoding ended with SIGSYS")
    child.close()


@pytest.mark.medium
def test_nothing_else_is_open(hostile: Child, tmp_path: Path) -> None:
    with (tmp_path / "open").open("wb") as file, socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(file.fileno(), True)
        os.set_inheritable(listener.fileno(), True)
        child = started()
        found = attack(child, "descriptors").detail.split(", ")
        assert sorted(each.split(" ", 1)[1] for each in found) == ["is a file", "is a file", "is a socket or pipe"]
        child.close()


def test_what_it_says_reaches_no_terminal(hostile: Child, capfd: pytest.CaptureFixture[str]) -> None:
    assert attack(hostile, "say", "\x1b]0;a terminal's title\x07").detail == "said"
    assert capfd.readouterr() == ("", "")


@pytest.mark.medium
@pytest.mark.parametrize("name", ["fill_memory", "fill_shared_memory"])
def test_the_machine_s_memory_cannot_be_filled(name: str) -> None:
    child = started(memory_bytes=200 << 20)
    assert attack(child, name).detail == "uploaded bytes: decoding took too much memory"


@pytest.mark.medium
def test_one_that_only_spins_is_ended() -> None:
    child = started(stall_s=0.5)
    assert attack(child, "spin").detail == "uploaded bytes: decoding took too long"


@pytest.mark.medium
def test_cpu_time_is_limited_even_where_nobody_waits() -> None:
    child = started(stall_s=60.0)
    Allowance(child.pid).renew(0.1, 0)  # to whole seconds
    child._forker._worker[0] = replace(child._forker.worker(), allowance=None)
    before = time.monotonic()
    assert attack(child, "spin").detail == "uploaded bytes: decoding took too long"
    assert time.monotonic() - before < 30


@pytest.mark.medium
def test_no_more_samples_are_written_than_the_limits_allow() -> None:
    child = started()
    assert attack(child, "huge_file").detail == "uploaded bytes: decoding wrote too much"


@pytest.mark.medium
@pytest.mark.parametrize("name", ["drip", "ask_again", "touch"])
def test_one_that_keeps_talking_is_ended_as_one_that_is_silent(name: str) -> None:
    child = started(stall_s=0.5)
    before = time.monotonic()
    limits = LIMITS.model_copy(update={"max_source_samples": 4_000_000})  # a second
    assert attack(child, name, limits=limits).reason == "decoder_died"
    assert time.monotonic() - before < 4


@pytest.mark.medium
def test_one_that_is_stopped_and_keeps_talking_is_left() -> None:
    def watch(samples: int, nbytes: int) -> None:
        raise Stop

    child, before = started(stall_s=30.0), time.monotonic()
    with pytest.raises(Stop):
        child.decode(b"ATTACK drip 0.5", LIMITS, watch=watch)
    assert time.monotonic() - before < 5


@pytest.mark.medium
@pytest.mark.parametrize(
    "answer",
    [
        '{"answers": []}',
        '{"answers": [null]}',
        '{"answers": ["bug"]}',
        '{"answers": 5}',
        '{"answers": [{"found": {"samples": 1e400}}]}',
        '{"answers": [{"found": {"samples": %s}}]}' % ("9" * 5000),
        '{"answers": [{"found": ' + "[" * 900 + "]" * 900 + "}]}",
        '{"read": null}',
        '{"read": [0, 99999999999999999999999, 1]}',
        "[",
        "NaN",
    ],
)
def test_an_answer_that_is_none_costs_its_file_only(answer: str) -> None:
    child = started()
    found = attack(child, "answer", answer)
    assert (found.reason, found.detail) == ("decoder_died", "uploaded bytes: decoding answered nonsense")


def test_a_bug_is_a_line_of_the_log_that_forges_no_other(hostile: Child, caplog: pytest.LogCaptureFixture) -> None:
    said = "\\x1b]0;pwned\\x07\\nERROR root: a forged line" + "A" * 100_000
    assert attack(hostile, "bug", said).reason == "decoder_died"
    [result] = hostile.each([Task(f"ATTACK bug {said}".encode())])
    assert isinstance(result, DataError) and result.reason == "decoder_died"
    for record in caplog.records:
        assert "a bug of ours" in record.message and record.message.isprintable() and len(record.message) < 10_000


def test_one_that_stays_hears_and_says_nothing_of_the_next(hostile: Child) -> None:
    first = hostile.pid
    assert attack(hostile, "spy").detail == "listening"
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(first, 0)
    assert attack(hostile, "replay").detail == ""
    assert hostile.pid != first
    results = hostile.each([Task(b"ATTACK spy "), Task(b"ATTACK spy ")])
    assert [str(each) for each in results] == ["did_it: listening"] * 2
    assert attack(hostile, "replay").detail == ""


@pytest.mark.medium
def test_samples_are_nobody_s_once_their_recording_is_done(hostile: Child) -> None:
    before = shared_bytes()
    for _ in range(20):
        assert attack(hostile, "pin").detail == "mine"  # 4 MB
    assert shared_bytes() - before < 40 << 20


def shared_bytes() -> int:
    """Memory of files in memory, of the whole machine."""
    return 1024 * int(Path("/proc/meminfo").read_text().split("Shmem:")[1].split()[0])


def test_samples_that_are_no_numbers_are_not_heard(hostile: Child) -> None:
    assert attack(hostile, "no_number").reason == "non_finite"


def test_speech_is_decoded_after_all_that(hostile: Child) -> None:
    assert np.array_equal(hostile.decode(FLAC, LIMITS).waveform, decode(FLAC))
