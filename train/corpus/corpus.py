"""Training data of a run: the rows of its sources, admitted or quarantined, and the order they are trained on in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from asr.data.sources import is_stream, rows
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.utterance import Quarantined
from train.corpus.static import StaticCorpus, without_repeats
from train.corpus.streaming import StreamingCorpus, Windows
from train.corpus.table import ValidatedUtterance, collect
from train.corpus.validation import CorpusValidator, require_usable
from train.data.config import DataConfig
from train.examples import MicroBatchSpec
from train.sampling.batching import MicroBatch, OptimizerStep
from train.sampling.mixing import shares
from train.sampling.sampler import Ordering


class Corpus(Protocol):
    """The utterances that a worker makes its data set of; small to pickle after ``shared``."""

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """The unusable rows, as far as was read by now; after ``shared`` of a listed corpus none."""

    @property
    def fingerprint(self) -> str:
        """A digest of the data: another one is another run."""

    @property
    def size(self) -> dict[str, float]:
        """Sizes that are known: ``clips``, and ``audio_s``, the seconds of speech."""

    def steps(self, first_step: int) -> Iterator[OptimizerStep]:
        """Yield steps for ever, epoch after epoch, from step number ``first_step`` of the whole run on."""

    def micro_batch_specs(self, batches: Sequence[MicroBatch]) -> list[MicroBatchSpec]:
        """Return micro-batches of the step that ``steps`` yielded last with their utterances."""

    def shared(self) -> Corpus:
        """Return the same inside a Ray session: what is large goes into the object store, once for all workers."""


def load(data: DataConfig, validator: CorpusValidator, ordering: Ordering) -> Corpus:
    """Read the sources of a run. Streams are not read yet, but their language is checked.

    Raises UserError where more than ``max_quarantined_share`` cannot be used, nothing is left, or the checkpoint does
    not know a language.
    """
    if any(map(is_stream, data.sources)):
        for source in data.sources:
            if source.language or validator.preprocess.language:
                validator.require(source.language)
        return StreamingCorpus(Windows(data.sources, data.window_clips, validator, ordering))
    quarantined: list[Quarantined] = []
    utterances, sizes = without_repeats(*collect(_validated(data, validator, quarantined)), quarantined)
    met = len(utterances) + len(quarantined)
    require_usable(quarantined, met, data.max_quarantined_share)
    empty = [source.source for source, size in zip(data.sources, sizes, strict=True) if not size]
    if empty:
        why = f", the last fault: {quarantined[-1].id}: {quarantined[-1].reason}" if quarantined else ""
        raise UserError(
            f"{empty[0]}: no utterance that can be trained on{why}", "`whisperfleet data inspect` says more"
        )
    drawn = shares(sizes, [source.weight for source in data.sources], data.temperature)
    corpus = StaticCorpus(utterances, sizes, drawn, ordering)
    corpus.quarantined = quarantined
    return corpus


def _validated(
    data: DataConfig, validator: CorpusValidator, quarantined: list[Quarantined]
) -> Iterator[Iterator[ValidatedUtterance]]:
    """Yield each source's utterances. Ids of several sources have the source's number in front: 0:id, 1:id ..."""
    for number, source in enumerate(data.sources):
        found = rows(source, cache_root())
        if len(data.sources) > 1:
            found = (replace(row, id=f"{number}:{row.id}") for row in found)
        yield validator.validate(found, quarantined)
