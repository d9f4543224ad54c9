"""A model that hears nothing, and checks what it is given."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.audio.features import LogMel
from asr.data.sources.prompts import fetch, utterances
from asr.inference.model_info import ModelInfo
from asr.io.cache import cache_root
from asr.language import NAMES
from asr.transcript import DecodingRequest, Segment, Transcript, Word
from serve.config import ServeConfig

POISON = "la"  # a clip in Latin cannot be decoded, nor can a batch with one in it
POISON_S = 17  # nor can one that lasts so long
HEARD = "en"  # what is detected in every clip
LANGUAGES = frozenset({"en", "it", "zh", POISON})

PADDED = ModelInfo("padded", LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters))


class FakeEngine:
    """Answers with the seconds of each clip; one line in ``folder/batches`` is one batch, what its clips ask for.

    While ``folder/hold`` exists it does not come back from a batch, once as many have passed as that file says.
    """

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        self.info = ModelInfo(
            config.public_name, LANGUAGES, None, "full", LogMel(WhisperFeatureExtractor().mel_filters)
        )
        self.max_clips = config.max_batch_audio_s / 30.0
        self.folder = folder
        self.threads: set[int] = set()
        self.nbytes = 1_000_000
        self.group = config.model

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        self.threads.add(threading.get_ident())
        assert len(self.threads) == 1, "batches run in one thread, one after the other"
        assert 1 <= len(clips) <= self.max_clips, f"{len(clips)} clips are over the batch's limit"
        for clip in clips:
            check(clip)
        with open(self.folder / "batches", "a", encoding="utf-8") as diary:
            diary.write(json.dumps([note(clip) for clip in clips]) + "\n")
        while self._is_held():
            time.sleep(0.01)
        if any(clip.language == POISON or note(clip)["seconds"] == POISON_S for clip in clips):
            raise RuntimeError("a secret of the house")
        return [transcript(clip) for clip in clips]

    def _is_held(self) -> bool:
        try:
            passing = int((self.folder / "hold").read_text() or 0)
        except FileNotFoundError:
            return False
        return len((self.folder / "batches").read_text().splitlines()) > passing


def check(clip: DecodingRequest) -> None:
    """Refuse what no engine should be asked."""
    assert clip.features.dtype == np.float16 and clip.features.shape[0] == 80
    assert clip.features.shape[1] <= 3000
    assert clip.language is None or clip.language in LANGUAGES & set(NAMES)
    assert 0.0 <= clip.temperature <= 1.0
    assert clip.prompt == clip.prompt.strip() and "<|" not in clip.prompt


def note(clip: DecodingRequest) -> dict[str, object]:
    """What a clip asks for, and the seconds it lasts."""
    return {
        "seconds": round(clip.features.shape[1] / 100),
        "language": clip.language,
        "task": clip.task,
        "prompt": clip.prompt,
        "temperature": clip.temperature,
        "timestamps": clip.timestamps,
        "words": clip.words,
    }


def transcript(clip: DecodingRequest, detected: str | None = HEARD) -> Transcript:
    """One segment, and one word where words are asked for, over the whole clip: its seconds."""
    length_s = clip.features.shape[1] / 100
    text = str(round(length_s))
    return Transcript(
        text=text,
        tokens=(0,),
        language=clip.language or detected,
        segments=(Segment(0.0, length_s, text, (0,)),),
        words=(Word(0.0, length_s, f" {text}", 0.5),) if clip.words else (),
        avg_logprob=-0.25,
        no_speech_prob=0.125,
        temperature=clip.temperature,
    )


def noise(seconds: float, seed: int = 0) -> bytes:
    """A FLAC file of faint noise."""
    samples = np.random.default_rng(seed).normal(0.0, 0.01, round(seconds * SAMPLE_RATE))
    return encode_flac(samples.astype(np.float32))


def babble(seconds: float) -> np.ndarray:
    """A voice [samples] that never pauses: a second and a half of a sentence, over and over."""
    return np.resize(_syllables(), round(seconds * SAMPLE_RATE))


def voice(seconds: float) -> bytes:
    """A FLAC file of the same."""
    return encode_flac(babble(seconds))


@cache
def _syllables() -> np.ndarray:
    good, _ = utterances("en", fetch("en", cache_root()))
    sentence = next(clip for clip in good if clip.text.startswith("That agent is already logged on"))
    start = SAMPLE_RATE // 3
    return decode(str(sentence.audio), container="g722")[start : start + SAMPLE_RATE * 3 // 2]
