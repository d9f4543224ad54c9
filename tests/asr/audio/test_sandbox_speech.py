from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import sandbox
from asr.audio.decode import SAMPLE_RATE, AudioLimits, encode_flac
from asr.audio.sandbox import Child
from asr.audio.sandbox_speech import SampleFile, speech_in, speech_of
from asr.audio.shared_samples import memory
from asr.audio.sounding import put, put_sparsely
from asr.audio.vad import BLOCK, speech
from asr.utterance import Utterance
from tests.asr.noises import noises

LIMITS = AudioLimits(max_audio_s=3600.0)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.close()


def assert_same_speech(child: Child, source: bytes | str) -> list[tuple[int, int]]:
    decoded = child.decode(source, LIMITS, speech=True)
    assert decoded.speech == speech(decoded.waveform)
    return list(decoded.speech)


@pytest.mark.medium
def test_a_child_finds_the_speech_that_is_found_here(child: Child, english_clips: list[Utterance]) -> None:
    assert all(assert_same_speech(child, str(clip.audio)) for clip in english_clips[:6])


@pytest.mark.medium
def test_noise_and_silence_are_told_from_speech_as_they_are_here(child: Child) -> None:
    for noise in list(noises(3.0, [-23.0]).values())[::3]:
        assert_same_speech(child, encode_flac(noise))


@pytest.mark.medium
def test_of_a_recording_with_holes_it_finds_the_same(child: Child, english_clips: list[Utterance]) -> None:
    one, other = (sandbox.waveform(str(clip.audio)) for clip in english_clips[:2])
    silence = np.zeros(BLOCK // 3 + 1234, np.float32)
    long = np.concatenate([silence, one, silence, *(other, one) * 3, silence, other])[: 60 * SAMPLE_RATE]
    assert len(assert_same_speech(child, encode_flac(long))) > 5


@pytest.mark.medium
def test_it_is_found_only_where_that_is_asked_for(child: Child, english_clips: list[Utterance]) -> None:
    assert child.decode(str(english_clips[0].audio), LIMITS).speech is None


@pytest.mark.medium
def test_many_at_once_find_each_their_own(english_clips: list[Utterance]) -> None:
    sources = [str(clip.audio) for clip in english_clips[:8]]
    expected = [speech(sandbox.waveform(source)) for source in sources]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda source: sandbox.decode(source, LIMITS, speech=True).speech, sources * 3))
    assert found == expected * 3


@pytest.mark.medium
def test_what_ends_before_it_is_asked_costs_no_recording(english_clips: list[Utterance]) -> None:
    for _ in range(2):
        os.kill(sandbox.own().forker, signal.SIGKILL)
        assert sandbox.decode(str(english_clips[0].audio), LIMITS, speech=True).speech


def test_samples_in_a_file_are_read_as_an_array_is() -> None:
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    with memory() as file:
        put(file, samples, 0)
        stored = SampleFile(file, 1000)
        assert len(stored) == 1000
        for part in (slice(0, 10), slice(990, 2000), slice(5, 5), slice(None, None)):
            np.testing.assert_array_equal(stored[part], samples[part])
        with pytest.raises(ValueError, match="fewer"):
            SampleFile(file, 1001)[slice(990, 1001)]


def test_who_reads_shows_that_it_goes_on_without_changing_a_sample() -> None:
    samples = np.arange(1, 1001, dtype=np.float32)
    with memory() as file:
        put(file, samples, 0)
        os.utime(file, ns=(1, 1))
        SampleFile(file, 1000)[slice(0, 1000)]
        assert os.fstat(file).st_mtime_ns == 1
        SampleFile(file, 1000, -1e9)[slice(500, 1000)]
        assert os.fstat(file).st_mtime_ns > 1
        np.testing.assert_array_equal(np.frombuffer(os.pread(file, 4000, 0), np.float32), samples)


def test_a_hole_stays_one(english_clips: list[Utterance]) -> None:
    clip = sandbox.waveform(str(english_clips[0].audio))
    waveform = np.concatenate([np.zeros(BLOCK, np.float32), clip, np.zeros(BLOCK // 2, np.float32)])
    with memory() as file:
        put_sparsely(file, waveform, 0)
        before = os.fstat(file).st_blocks
        assert speech_in(file, len(waveform)) == speech(waveform) != []
        assert os.fstat(file).st_blocks == before < waveform.nbytes // 512


def test_a_long_recording_is_left_to_the_parent_who_sends_its_first_window_meanwhile(
    english_clips: list[Utterance],
) -> None:
    clip = sandbox.waveform(str(english_clips[0].audio))
    for seconds, is_told in ((60, True), (61, False)):
        waveform = np.resize(clip, seconds * SAMPLE_RATE)
        with memory() as file:
            put(file, waveform, 0)
            assert speech_in(file, len(waveform)) == (speech(waveform) if is_told else None)


@pytest.mark.parametrize(
    "told",
    [
        "all of it",
        [[0]],
        [[0, 1, 2]],
        [[0.0, 1.0]],
        [[True, 5]],
        [["0", "1"]],
        [[5, 5]],
        [[5, 4]],
        [[-1, 4]],
        [[0, 101]],
        [[0, 10], [10, 20]],
        [[20, 30], [0, 10]],
        [{"0": 1}],
        {},
    ],
)
def test_what_are_no_stretches_of_the_recording_are_not_believed(told: object) -> None:
    with pytest.raises(ValueError):
        speech_of({"speech": told}, 100)


def test_stretches_of_the_recording_are_believed() -> None:
    assert speech_of({"speech": [[0, 10], [11, 100]]}, 100) == [(0, 10), (11, 100)]
    assert speech_of({"speech": []}, 100) == []
    assert speech_of({"speech": None}, 100) is speech_of({}, 100) is None


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=6))
def test_whatever_a_child_says_it_is_stretches_or_refused(told: object) -> None:
    try:
        found = speech_of({"speech": told}, 100)
    except ValueError:
        return
    edges = [edge for stretch in found or [] for edge in stretch]
    assert edges == sorted(set(edges)) and all(0 <= edge <= 100 for edge in edges)


def test_the_module_is_free_of_what_runs_networks() -> None:
    code = "import sys, asr.audio.sandbox_child; print({'onnxruntime', 'torch', 'transformers'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ended.stdout == "set()\n"
