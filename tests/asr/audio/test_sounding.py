from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.sounding import HOLE_BYTES, SAMPLE_BYTES, copied, mean, put_sparsely, sounding, within, written

BLOCK = HOLE_BYTES // SAMPLE_BYTES


@pytest.fixture
def file() -> Iterator[int]:
    made = os.memfd_create("samples")
    yield made
    os.close(made)


def sound(*lengths: int) -> np.ndarray:
    """Silence and sound [samples] in turns of so many samples."""
    parts = [np.full(length, number % 2, np.float32) for number, length in enumerate(lengths)]
    return np.concatenate(parts)


def write(file: int, waveform: np.ndarray, step: int) -> None:
    end = 0
    for start in range(0, len(waveform), step):
        end = put_sparsely(file, waveform[start : start + step], end)


def test_three_hours_of_silence_take_no_memory(file: int) -> None:
    end, minute = 0, np.zeros(60 * 16_000, np.float32)
    for _ in range(180):
        end = put_sparsely(file, minute, end)
    assert os.fstat(file).st_size == 180 * minute.nbytes
    assert os.fstat(file).st_blocks == 0
    assert written(file, 180 * len(minute)) == []


@pytest.mark.parametrize("step", [1_000, BLOCK, 3 * BLOCK + 7])
@pytest.mark.parametrize(
    "lengths",
    [(0, 5), (BLOCK, 1), (0, BLOCK, 2 * BLOCK, 7), (2 * BLOCK, BLOCK, 3 * BLOCK), (100, 3 * BLOCK, 5 * BLOCK + 1, 9)],
)
def test_what_is_written_is_what_was_given_and_its_map_is_true(file: int, lengths: tuple[int, ...], step: int) -> None:
    waveform = sound(*lengths)
    write(file, waveform, step)
    assert os.fstat(file).st_size == waveform.nbytes
    stretches = written(file, len(waveform))
    assert os.pread(file, waveform.nbytes, 0) == waveform.tobytes()
    outside = waveform.copy()
    for left, right in stretches:
        outside[left:right] = 0
    assert not outside.any()
    assert sum(right - left for left, right in stretches) < np.count_nonzero(waveform) + (len(stretches) + 1) * BLOCK
    np.testing.assert_array_equal(copied(waveform, stretches, 0, len(waveform)), waveform)


def test_a_file_that_may_not_grow_is_an_error_for_sound_and_for_silence(file: int) -> None:
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    for waveform in (sound(BLOCK), sound(0, BLOCK)):
        with pytest.raises(PermissionError):
            write(sealed, waveform, BLOCK)
    os.close(sealed)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=8), st.integers(1, 30), st.integers(0, 100), st.integers(1, 100))
def test_stretches_say_all_that_is_needed(lengths: list[int], block: int, start: int, count: int) -> None:
    waveform = sound(200, *lengths, 1)
    stretches = sounding(waveform, block)
    assert stretches == sorted(stretches)
    np.testing.assert_array_equal(copied(waveform, stretches, start, start + count), waveform[start : start + count])
    inside = np.zeros(len(waveform), bool)
    for left, right in stretches:
        inside[left:right] = True
    found = [index for left, right in within(stretches, start, start + count) for index in range(left, right)]
    assert found == [index for index in range(start, start + count) if inside[index]]
    assert mean(waveform, stretches) == pytest.approx(waveform.mean(), rel=1e-6)
