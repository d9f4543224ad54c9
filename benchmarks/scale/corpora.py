"""Corpora of any size whose rows are made up: what planning takes depends on lengths and on how many there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig
from asr.utterance import Utterance
from train.corpus.table import Utterances
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of

_WORDS = ("uno", "due", "tre", "quattro", "cinque", "la", "persona", "non", "risponde", "al", "telefono", "prego")
_TEXTS = 4096
_NEIGHBOURS = 20  # utterances of one recording


def utterances(count: int, seed: int = 0) -> Utterances:
    """Return utterances of 5 s in the middle, up to 29, with some 11 words each, ids and addresses as in manifests."""
    random = np.random.default_rng(seed)
    audio_s = np.clip(random.lognormal(np.log(5.0), 0.6, count), 0.5, 29.0)
    tokens = np.clip(np.round(audio_s * 3.0), 1, 200).astype(np.int32)
    lines = [" ".join(random.choice(_WORDS, random.integers(4, 20))) for _ in range(_TEXTS)]
    numbers = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.large_string()), width=9, padding="0")
    names = _joined("utterance-", numbers)
    addresses = _joined("s3://speech/corpus/clips/utterance-", numbers, ".flac")
    columns = {
        "id": names,
        "audio": addresses.cast(pa.large_binary()),
        "inline": pa.array(np.zeros(count, bool)),
        "text": pa.array(lines, pa.large_string()).take(pa.array(random.integers(0, _TEXTS, count))),
        "duration_s": audio_s,
        "language": pa.array(["it"]).take(pa.array(np.zeros(count, np.int32))),
        "start_s": np.zeros(count),
        "end_s": pa.nulls(count, pa.float64()),
        "track": pa.nulls(count, pa.int32()),
        "channel": pa.nulls(count, pa.string()),
        "tokens": tokens,
        "group": np.arange(count) // _NEIGHBOURS + 1,
    }
    return Utterances(pa.table(columns))


def language(checkpoint: str) -> str:
    """Return what is spoken to a checkpoint."""
    return "en" if checkpoint.endswith(".en") else "it"


def speech(folder: Path, checkpoint: str, prompts: int | None = None, most: int = 64) -> tuple[list[Utterance], float]:
    """Return real clips as ``data prepare`` leaves them, and how many seconds one has on average.

    ``prompts`` are prepared, or all that there are.
    """
    config = PrepareConfig(test_share=0.5, min_test_clips=1) if prompts else PrepareConfig()
    prepared = prepare(list(rows_of(SourceConfig(source=f"prompts:{language(checkpoint)}")))[:prompts], folder, config)
    clips = read_manifest(prepared.manifests["test"])[:most]
    return clips, sum(clip.duration_s or 0.0 for clip in clips) / len(clips)


def _joined(*parts: str | pa.Array) -> pa.Array:
    text = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, "")]
    return pc.binary_join_element_wise(*text)  # the last one is the separator
