from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from asr.audio.shared_samples import BRIEF_BYTES, brief, copied, mapped, memory, taken
from asr.errors import DataError
from asr.sound import SoundReport

SOUND = np.linspace(-1, 1, 100_000, dtype=np.float32)


def test_samples_are_taken_over_without_and_with_a_copy() -> None:
    with memory() as file:
        os.write(file, SOUND.tobytes())
        shared = mapped(file, SoundReport(len(SOUND)), "a").waveform
        own = copied(file, 10, 50, "a")
        os.pwrite(file, bytes(SOUND.nbytes), 0)
    assert not shared.any()  # it is the same memory
    assert np.array_equal(own, SOUND[10:60])


def test_what_is_brief_is_ours_whatever_its_writer_does_afterwards() -> None:
    """The process that wrote it may live on for some milliseconds."""
    with memory() as file:
        os.write(file, SOUND.tobytes())
        assert brief(file)
        decoded = taken(file, SoundReport(len(SOUND)), "a", [(0, 10)])
        os.pwrite(file, bytes(SOUND.nbytes), 0)
        with pytest.raises(PermissionError):
            os.pwrite(file, bytes(8), SOUND.nbytes - 4)  # or it would be long by now, and mapped
    assert np.array_equal(decoded.waveform, SOUND)
    assert decoded.speech == [(0, 10)] and decoded.stretches[0][0] == 0
    decoded.forget(len(SOUND) // 2)
    assert not decoded.waveform[:40_000].any() and np.array_equal(decoded.waveform[60_000:], SOUND[60_000:])


def test_the_silence_of_a_brief_recording_takes_no_memory() -> None:
    samples = BRIEF_BYTES // 4
    with memory() as file:
        os.pwrite(file, SOUND[:1000].tobytes(), 0)
        os.ftruncate(file, samples * 4)
        decoded = taken(file, SoundReport(samples), "a")
    assert decoded.stretches == [(0, 1024)]
    start = f"{decoded.waveform.ctypes.data:x}-"
    maps = Path("/proc/self/smaps").read_text().split(start)[1]
    assert int(maps.split("Rss:")[1].split()[0]) <= 64  # KB, of 2048
    assert np.array_equal(decoded.waveform[:1000], SOUND[:1000]) and not decoded.waveform[1000:].any()


def test_what_is_long_is_not_copied() -> None:
    samples = BRIEF_BYTES // 4 + 1
    with memory() as file:
        os.ftruncate(file, samples * 4)
        assert not brief(file)
        decoded = taken(file, SoundReport(samples), "a")
        os.pwrite(file, np.ones(1, np.float32).tobytes(), 0)
    assert decoded.waveform[0] == 1.0


def test_a_file_that_was_taken_over_cannot_be_cut_under_who_reads_it() -> None:
    with memory() as file:
        os.write(file, SOUND.tobytes())
        mapped(file, SoundReport(len(SOUND)), "a")
        with pytest.raises(PermissionError):
            os.ftruncate(file, 0)


@pytest.mark.parametrize("samples", [0, -1, len(SOUND) + 1, 1 << 62])
def test_a_number_of_samples_that_are_not_there_is_not_believed(samples: int) -> None:
    with memory() as file:
        os.write(file, SOUND.tobytes())
        with pytest.raises(ValueError):
            mapped(file, SoundReport(samples), "a")
        with pytest.raises(ValueError):
            taken(file, SoundReport(samples), "a")
        with pytest.raises(ValueError):
            copied(file, 0, samples, "a")
        with pytest.raises(ValueError):
            copied(file, len(SOUND), 1, "a")


@pytest.mark.parametrize("value", [np.nan, np.inf, -3e38])
def test_a_sample_that_no_recording_has_would_end_a_training_run(value: float) -> None:
    sound = SOUND.copy()
    sound[77] = value
    with memory() as file:
        os.write(file, sound.tobytes())
        with pytest.raises(DataError, match="non_finite: a"):
            copied(file, 0, len(sound), "a.wav")
        with pytest.raises(DataError, match="non_finite: a"):
            mapped(file, SoundReport(len(sound)), "a.wav")
        with pytest.raises(DataError, match="non_finite: a"):
            taken(file, SoundReport(len(sound)), "a.wav")
