from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asr.audio.vad
from asr.audio.decode import SAMPLE_RATE, decode
from asr.audio.vad import FRAME, probabilities, speech
from asr.utterance import Utterance
from tests.asr.noises import noises

SURE = np.float32(0.999)


@pytest.fixture(scope="module")
def sentence(english_clips: list[Utterance]) -> np.ndarray:
    return decode(english_clips[0].audio)


def hears(monkeypatch: pytest.MonkeyPatch, frames: np.ndarray) -> list[tuple[int, int]]:
    """The stretches, in frames, of a recording that the network judges so."""
    monkeypatch.setattr(asr.audio.vad, "judged", lambda *_: [frames.astype(np.float32)])
    return [(start // FRAME, end // FRAME) for start, end in speech(np.zeros(len(frames) * FRAME, np.float32))]


def frames_of(seconds: float, **stretches: tuple[int, int, float]) -> np.ndarray:
    frames = np.full(round(seconds * SAMPLE_RATE / FRAME), 0.01)
    for start, end, probability in stretches.values():
        frames[start:end] = probability
    return frames


def test_the_words_are_found_and_the_silence_around_them_is_not(sentence: np.ndarray) -> None:
    silence = np.zeros(10 * SAMPLE_RATE, np.float32)
    found = speech(np.concatenate([silence, sentence, silence]))
    start, end = found[0][0] / SAMPLE_RATE - 10, found[-1][1] / SAMPLE_RATE - 10
    length_s = len(sentence) / SAMPLE_RATE
    assert -0.1 < start < 0.3
    assert length_s - 0.7 < end < length_s + 0.1


def test_loudness_makes_no_difference(sentence: np.ndarray) -> None:
    quiet = sentence * np.float32(2.0**-5)  # 30 dB less, without rounding
    assert speech(quiet) == speech(sentence) != []


def test_an_offset_of_the_microphone_makes_no_difference(sentence: np.ndarray) -> None:
    quiet = sentence * np.float32(0.05)
    assert len(speech(quiet + np.float32(0.3))) == len(speech(quiet)) > 0


def test_a_quiet_voice_is_heard_after_a_loud_one(sentence: np.ndarray) -> None:
    pause = np.zeros(2 * SAMPLE_RATE, np.float32)
    found = speech(np.concatenate([sentence, pause, sentence * np.float32(0.05)]))
    second = (len(sentence) + len(pause)) / SAMPLE_RATE
    assert any(start / SAMPLE_RATE < second + 0.3 and end / SAMPLE_RATE > second + 1.0 for start, end in found)


@pytest.mark.parametrize("seconds", [0.5, 1.5])
@pytest.mark.parametrize("kind", ["silence", "white noise at -23 dB", "pink noise at -50 dB", "breathing at -35 dB"])
def test_short_noise_is_no_word(kind: str, seconds: float) -> None:
    assert speech(noises(seconds)[kind]) == []


@pytest.mark.parametrize("samples", [0, 1, FRAME - 1, FRAME, FRAME + 1])
def test_hardly_any_samples(samples: int) -> None:
    assert len(probabilities(np.zeros(samples, np.float32))) == -(-samples // FRAME)
    assert speech(np.zeros(samples, np.float32)) == []


def test_the_frames_are_judged_as_the_package_judges_them(
    sentence: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asr.audio.vad, "_gains", lambda sound: np.ones(len(sound.starts) * asr.audio.vad.BLOCK_FRAMES))
    weights = distribution("silero-vad").locate_file("silero_vad/data/silero_vad_16k_op15.onnx")
    streaming = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    lead = np.zeros(asr.audio.vad.LEAD_FRAMES * FRAME + 64, np.float32)
    centred = sentence - sentence.mean()
    audio = np.concatenate([lead, centred, np.zeros(-len(centred) % FRAME, np.float32)])
    state, rate, expected = np.zeros((2, 1, 128), np.float32), np.array(SAMPLE_RATE), []
    for start in range(0, len(audio) - 64, FRAME):
        inputs = {"input": audio[None, start : start + 64 + FRAME], "state": state, "sr": rate}
        probability, state = streaming.run(None, inputs)
        expected.append(probability.item())
    np.testing.assert_allclose(probabilities(centred), expected[asr.audio.vad.LEAD_FRAMES :], atol=1e-4)


@pytest.mark.medium
def test_speech_after_long_silence_is_as_plain_as_alone(sentence: np.ndarray) -> None:
    line = np.random.default_rng(0).standard_normal(28_000 * FRAME).astype(np.float32) * np.float32(0.0003)  # 15 min
    alone, late = (
        probabilities(np.concatenate([line[: frames * FRAME], sentence]))[frames:] for frames in (62, 28_000)
    )
    plain = alone > 0.9
    assert plain.sum() > 100
    assert (late[plain] < 0.8).mean() < 0.08  # with one state throughout it is 0.16


@pytest.mark.medium
def test_where_a_block_begins_makes_no_difference(sentence: np.ndarray) -> None:
    two = np.concatenate([sentence, sentence])
    alone = speech(two)
    for shift in range(
        asr.audio.vad.BLOCK_FRAMES - 300, asr.audio.vad.BLOCK_FRAMES, 60
    ):  # in silence, then in many a word
        moved = speech(np.concatenate([np.zeros(shift * FRAME, np.float32), two]))
        assert abs(moved[0][0] - shift * FRAME - alone[0][0]) <= 2 * FRAME
        assert abs(moved[-1][1] - shift * FRAME - alone[-1][1]) <= 2 * FRAME
        spoken = [sum(end - start for start, end in found) for found in (moved, alone)]
        assert abs(spoken[0] - spoken[1]) < 0.05 * spoken[1]


@pytest.mark.medium
def test_threads_do_not_disturb_each_other(english_clips: list[Utterance]) -> None:
    waveforms = [decode(clip.audio) for clip in english_clips[:8]]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(speech, waveforms)) == [speech(waveform) for waveform in waveforms]


def test_the_package_is_not_imported(sentence: np.ndarray) -> None:
    speech(sentence)
    assert "silero_vad" not in sys.modules  # it would set torch's threads to one


def test_a_weak_consonant_ends_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = frames_of(10, word=(50, 70, SURE), consonant=(58, 60, 0.4))
    assert hears(monkeypatch, frames) == [(50, 70)]


def test_weak_runs_count_beside_speech_only(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = frames_of(20, article=(40, 43, 0.8), word=(60, 75, SURE), knock=(300, 303, 0.8))
    assert hears(monkeypatch, frames) == [(40, 43), (60, 75)]


def test_weak_runs_make_no_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    music = {f"note{n}": (90 + 20 * n, 93 + 20 * n, 0.8) for n in range(20)}
    assert hears(monkeypatch, frames_of(20, word=(60, 75, SURE), **music)) == [(60, 75), (90, 93)]


def test_a_doubtful_word_counts_where_there_is_hardly_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    word = (20, 23, 0.8)
    assert hears(monkeypatch, frames_of(1.5, word=word)) == [(20, 23)]
    assert hears(monkeypatch, frames_of(5.0, word=word)) == []


@pytest.mark.medium
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cells=st.integers(1, 60), rest=st.integers(0, FRAME - 1))
def test_stretches_are_in_order_and_hold_all_that_is_sure(seed: int, cells: int, rest: int) -> None:
    frames = np.repeat(np.random.default_rng(seed).choice([0.01, 0.4, 0.7, SURE], cells), 6).astype(np.float32)
    samples = len(frames) * FRAME - rest
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(asr.audio.vad, "judged", lambda *_: np.array_split(frames, 3))
        found = speech(np.zeros(samples, np.float32))
    edges = [edge for stretch in found for edge in stretch]
    assert edges == sorted(set(edges))
    assert all(0 <= edge <= samples for edge in edges)
    for frame in np.flatnonzero(frames == SURE):
        first, last = int(frame) * FRAME, min((int(frame) + 1) * FRAME, samples)
        assert any(start <= first and last <= end for start, end in found)


@pytest.mark.medium
def test_hours_of_digital_silence_are_neither_judged_nor_read(
    sentence: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = np.zeros(5 * asr.audio.vad.BLOCK, np.float32)
    recording = np.concatenate([silence, sentence, silence, sentence, silence])
    expected = speech(recording)
    first = len(silence), len(silence) + len(sentence)
    second = first[0] + first[1], first[1] + first[1]
    unread = np.full(len(recording), np.nan, np.float32)  # what is read by mistake spoils everything
    for left, right in (first, second):
        unread[left:right] = recording[left:right]
    judged: list[int] = []
    judge = asr.audio.vad._judged

    def counted(block: np.ndarray, state: asr.audio.vad.State) -> list[np.ndarray]:
        judged.append(len(block))
        return judge(block, state)

    monkeypatch.setattr(asr.audio.vad, "_judged", counted)
    assert speech(unread, [first, second]) == expected != []
    # The first block, and around each sentence what it lies in and one in which the network may still hear it.
    assert len(judged) <= 9 < len(recording) // asr.audio.vad.BLOCK
