"""The Ray Data stage that holds a model: windows of many recordings in, in batches of so much audio, words out."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa

from asr.errors import DataError, one_line
from asr.inference.engine import Engine
from asr.inference.isolation import MAX_FAILURES, each_on_its_own
from asr.transcript import DecodingRequest, Transcript
from serve.batch.window_task import WindowTask, cost_s
from serve.config import ServeConfig

logger = logging.getLogger(__name__)

MakeEngine = Callable[[ServeConfig], Engine]


class DecodeActor:
    """An actor of the pool. It is ready when its model is, because the model is loaded in the constructor."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._engine = make_engine(config)
        self._budget_s = config.max_batch_audio_s
        self._failures = 0

    def __call__(self, block: pa.Table) -> pa.Table:
        """Transcribe the windows of a block of ``packed`` window tasks."""
        return packed(self.transcribe(unpacked(block)))

    def transcribe(self, window_tasks: Sequence[WindowTask]) -> list[WindowTask]:
        """Return the window tasks, in their order, with transcripts in place of clips.

        A clip that cannot be decoded has a DataError in its place; several in a row raise what the engine raised.
        """
        decoded = list(window_tasks)
        asked = {i: one.content for i, one in enumerate(window_tasks) if isinstance(one.content, DecodingRequest)}
        for batch in self._batches(asked):
            outcomes = self._outcomes([asked[i] for i in batch])
            for i, outcome in zip(batch, outcomes, strict=True):
                decoded[i] = replace(decoded[i], content=outcome)
        return decoded

    def _batches(self, clips: dict[int, DecodingRequest]) -> Iterator[list[int]]:
        """Yield windows of like length together, as many as the audio of a batch allows."""
        batch, batch_s = list[int](), 0.0
        for i, clip in sorted(clips.items(), key=lambda item: item[1].features.shape[1]):
            own_s = cost_s(clip, self._engine.info)
            if batch and batch_s + own_s > self._budget_s:
                yield batch
                batch, batch_s = [], 0.0
            batch.append(i)
            batch_s += own_s
        if batch:
            yield batch

    def _outcomes(self, clips: Sequence[DecodingRequest]) -> list[Transcript | DataError]:
        return each_on_its_own(self._decode, clips, self._failed)

    def _decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        transcripts = self._engine.decode(clips)
        self._failures = 0
        return transcripts

    def _failed(self, error: Exception) -> DataError:
        """Return what stands in the table of failures, or end the run rather than write a long one."""
        self._failures += 1
        if self._failures == MAX_FAILURES:
            raise error
        logger.exception("decoding failed")
        return DataError("not_decoded", f"{type(error).__name__}: {one_line(error)}")


def packed(window_tasks: Iterable[WindowTask]) -> pa.Table:
    """Return window tasks as a table for Ray Data. We pickle them: Ray would try to make columns of their parts."""
    return pa.table({"row": pa.array(list(map(pickle.dumps, window_tasks)), pa.binary())})


def unpacked(block: pa.Table) -> list[WindowTask]:
    """Return the window tasks of such a table."""
    return [pickle.loads(row.as_buffer()) for row in block["row"]]
