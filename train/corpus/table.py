"""Utterances by the million: Arrow columns that Ray ships without copying, in the order of their sources."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from asr.parsed import JsonObject
from asr.sound import AUTO, SoundChoice
from asr.utterance import Utterance
from train.examples import MicroBatchSpec, PackedExample
from train.sampling.batching import MicroBatch
from train.sampling.packing import UtteranceColumns

_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("audio", pa.large_binary()),
        ("inline", pa.bool_()),  # the audio itself, not its address
        ("text", pa.large_string()),
        ("duration_s", pa.float64()),
        ("language", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("track", pa.int32()),
        ("channel", pa.string()),
        ("tokens", pa.int32()),
        ("group", pa.int64()),
    ]
)
_BATCH = 16_384


class ValidatedUtterance(NamedTuple):
    """An utterance that can be trained on: its duration is known, its text has so many tokens.

    ``follows`` tells that it comes right behind the one before: nothing between them was quarantined.
    """

    utterance: Utterance
    tokens: int
    follows: bool = True


@dataclass(frozen=True)
class Utterances:
    """Utterances by their index; about 200 bytes each, beside what their ids, addresses and texts take."""

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def columns(self) -> UtteranceColumns:
        """Return what the order of training depends on."""
        audio_s, tokens, group = (self.table[name].to_numpy() for name in ("duration_s", "tokens", "group"))
        return UtteranceColumns(audio_s, tokens.astype(np.int64), group)

    def ids(self) -> list[str]:
        """Return all ids."""
        return list(self.table["id"].to_pylist())

    def take(self, indices: Sequence[int]) -> list[Utterance]:
        """Return some of them, in the order asked for; without speaker and meta, which training does not need."""
        rows = self.table.take(pa.array(indices, pa.int64())).to_pylist()
        return [_utterance(row) for row in rows]

    def texts(self, first: int, count: int) -> list[str]:
        """Return the transcripts of ``count`` utterances from ``first`` on."""
        return list(self.table["text"].slice(first, count).to_pylist())


def collect(sources: Iterable[Iterable[ValidatedUtterance]]) -> tuple[Utterances, list[int]]:
    """Return the utterances of all sources, one source after the other, and how many each has."""
    batches: list[pa.RecordBatch] = []
    sizes: list[int] = []
    group = 0
    for source in sources:
        rows: list[dict[str, object]] = []
        key: tuple[object, ...] = ()
        group += 1
        size = 0
        for utterance, tokens, follows in source:
            before, key = key, _neighbourhood(utterance)
            group += key != before or not follows
            rows.append(_row(utterance, tokens, group))
            size += 1
            if len(rows) == _BATCH:
                batches.append(pa.RecordBatch.from_pylist(rows, _SCHEMA))
                rows = []
        if rows:
            batches.append(pa.RecordBatch.from_pylist(rows, _SCHEMA))
        sizes.append(size)
    # One chunk: taking rows from many is slow.
    return Utterances(pa.Table.from_batches(batches, _SCHEMA).combine_chunks()), sizes


def micro_batch_specs(utterances: Utterances, batches: Sequence[MicroBatch]) -> list[MicroBatchSpec]:
    """Return micro-batches with the utterances that their indices stand for."""
    found = iter(utterances.take([index for batch in batches for index in batch.utterances]))
    return [
        MicroBatchSpec(
            tuple(
                PackedExample(
                    tuple(next(found) for _ in range(item.count)),
                    item.timestamps,
                    " ".join(utterances.texts(item.first - item.previous, item.previous)) if item.previous else "",
                )
                for item in batch.items
            ),
            batch.context_s,
            batch.own_s,
            batch.epoch,
        )
        for batch in batches
    ]


def _neighbourhood(utterance: Utterance) -> tuple[object, ...]:
    """Return the common key of utterances of one window: language, speaker, and the track they are cut from."""
    stretch = utterance.start_s > 0 or utterance.end_s is not None
    recording = utterance.audio if stretch and isinstance(utterance.audio, str) else None
    return utterance.language, utterance.speaker, recording, utterance.sound if recording else None


def _row(utterance: Utterance, tokens: int, group: int) -> dict[str, object]:
    inline = isinstance(utterance.audio, bytes)
    return {
        "id": utterance.id,
        "audio": utterance.audio if inline else os.fsencode(utterance.audio),
        "inline": inline,
        "text": utterance.text,
        "duration_s": utterance.duration_s,
        "language": utterance.language,
        "start_s": utterance.start_s,
        "end_s": utterance.end_s,
        "track": utterance.sound.track,
        "channel": None if utterance.sound.channel == AUTO else utterance.sound.channel,
        "tokens": tokens,
        "group": group,
    }


def _utterance(row: JsonObject) -> Utterance:
    return Utterance(
        id=row["id"],
        audio=row["audio"] if row["inline"] else os.fsdecode(row["audio"]),
        text=row["text"],
        duration_s=row["duration_s"],
        language=row["language"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        sound=SoundChoice(row["track"], row["channel"] or AUTO),
    )
