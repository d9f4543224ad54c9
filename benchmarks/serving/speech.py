"""Speech that all sides transcribe: the test split's short clips, and one long file made of prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig
from asr.utterance import Utterance
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of

PAUSE_S = 0.5
_SEED = 0


@dataclass(frozen=True)
class Spoken:
    """A FLAC file, what is said in it, and how many seconds it lasts."""

    path: Path
    text: str
    duration_s: float


def short_and_long(language: str, folder: Path, clips: int, long_s: float) -> tuple[list[Spoken], Spoken]:
    """Return the first ``clips`` prompts of the test split, and prompts joined to a file of about ``long_s`` seconds.

    The file is of all splits, because one does not fill it, in an order drawn once: in that of their names, prompts
    that say nearly the same follow one another, as nobody speaks, and Whisper takes that for a loop.
    """
    prepared = prepare(rows_of(SourceConfig(source=f"prompts:{language}")), folder / "data", PrepareConfig())
    splits = {name: read_manifest(path) for name, path in prepared.manifests.items()}
    test = splits["test"]
    short = [Spoken(Path(str(clip.audio)), clip.text, clip.duration_s or 0.0) for clip in test[:clips]]
    drawn = list(chain.from_iterable(splits.values()))
    random.Random(_SEED).shuffle(drawn)
    return short, joined(drawn, long_s, folder / "long.flac")


def joined(clips: Sequence[Utterance], long_s: float, path: Path) -> Spoken:
    """Write clips one after the other, with pauses, until ``long_s`` seconds are full or no clip is left."""
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    parts: list[NDArray[np.float32]] = []
    texts: list[str] = []
    samples = 0
    for clip in clips:
        waveform = decode(str(clip.audio))
        if texts and samples + len(waveform) + len(pause) > long_s * SAMPLE_RATE:
            break
        parts += [waveform, pause]
        texts.append(clip.text)
        samples += len(waveform) + len(pause)
    path.write_bytes(encode_flac(np.concatenate(parts)))
    return Spoken(path, " ".join(texts), samples / SAMPLE_RATE)
