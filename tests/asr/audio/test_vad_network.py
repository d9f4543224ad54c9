from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from asr.audio.decode import decode
from asr.audio.onnx_weights import read_weights
from asr.audio.vad import CONTEXT, FRAME, SAMPLE_RATE
from asr.audio.vad_network import HIDDEN, VoiceNetwork, voice_network
from asr.utterance import Utterance
from tests.asr.noises import noises

FILE = Path(str(distribution("silero-vad").locate_file("silero_vad/data/silero_vad_16k_sequence.onnx")))
FRESH = (np.zeros((1, 1, HIDDEN), np.float32), np.zeros((1, 1, HIDDEN), np.float32))


def judged_by_onnxruntime(block: np.ndarray, state: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(FILE), providers=["CPUExecutionProvider"])
    inputs = {"input": block, "h": state[0], "c": state[1]}
    return [np.asarray(each) for each in session.run(["speech_probs", "hn", "cn"], inputs)]


def framed(waveform: np.ndarray) -> np.ndarray:
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), waveform])
    starts = range(0, len(waveform) - FRAME + 1, FRAME)
    return np.stack([padded[start : start + CONTEXT + FRAME] for start in starts])


def assert_same(waveform: np.ndarray) -> None:
    block = framed(waveform)
    first = block[: len(block) // 2]
    state = FRESH
    for part in (first, block[len(first) :]):  # the second goes on where the first has ended
        expected = judged_by_onnxruntime(part, state)
        found = voice_network().judged(part, state)
        np.testing.assert_allclose(found[0], expected[0].reshape(-1), atol=1e-4)
        for one, other in zip(found[1:], expected[1:], strict=True):  # the cell's values go up to some hundreds
            np.testing.assert_allclose(one, other, atol=2e-3, rtol=1e-3)
        state = found[1], found[2]


def test_real_speech_is_judged_as_onnxruntime_does(english_clips: list[Utterance]) -> None:
    for clip in english_clips[:4]:
        assert_same(decode(clip.audio))


@pytest.mark.parametrize("name", sorted(noises(4.0)))
def test_noises_are_judged_as_onnxruntime_does(name: str) -> None:
    assert_same(np.asarray(noises(4.0)[name], np.float32))


@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 30.0])
def test_whatever_the_level(level: float) -> None:
    random = np.random.default_rng(0)
    assert_same((level * random.standard_normal(2 * SAMPLE_RATE)).astype(np.float32))


def test_blocks_of_any_length_are_judged_alike(english_clips: list[Utterance]) -> None:
    block = framed(decode(english_clips[0].audio))
    whole, *_ = voice_network().judged(block, FRESH)
    for count in (1, 2, len(block) - 1):
        part, *_ = voice_network().judged(block[:count], FRESH)
        np.testing.assert_allclose(part, whole[:count], atol=1e-5)


def test_another_network_is_refused() -> None:
    weights = read_weights(FILE)
    with pytest.raises(ValueError, match=r"encoder\.1\.weight"):
        VoiceNetwork(weights | {"encoder.1.weight": np.zeros((1, 2, 3), np.float32)})
    basis = weights["stft.forward_basis_buffer"] + np.linspace(0, 1, 256, dtype=np.float32)
    with pytest.raises(ValueError, match="Fourier"):
        VoiceNetwork(weights | {"stft.forward_basis_buffer": basis})
