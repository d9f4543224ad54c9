from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from asr.data.sources import SourceConfig
from asr.errors import UserError
from asr.models.head import InitialModel
from asr.utterance import Quarantined, Utterance
from tests.train.corpora import met, once_an_epoch, ordering
from train.augmentation.augment import Augmentation, SpeedPerturbation
from train.corpus import streaming
from train.corpus.streaming import StreamingCorpus, StreamReader, Windows
from train.corpus.validation import CorpusValidator
from train.examples import PreprocessConfig
from train.sampling.batching import BatchingConfig
from train.sampling.packing import Packing
from train.sampling.sampler import Ordering

RULES = CorpusValidator(PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe"))
PLAN = BatchingConfig(max_clips=3, micro_batches_per_step=2)
HOW = {
    "plain": ordering(PLAN),
    "packed": ordering(PLAN, Packing(window_s=12.0), Augmentation(speed=SpeedPerturbation(probability=0.5))),
}


class Sources:
    """Streams of so many utterances; every seventh has no text. Counts how often each was begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
        self.sizes, self.begun = sizes, Counter[str]()
        monkeypatch.setattr(streaming, "rows", self.rows)

    def rows(self, config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
        self.begun[config.source] += 1
        for n in range(self.sizes[config.source]):
            text = "" if n % 7 == 6 else f"word {n}"
            yield Utterance(f"{config.source}{n}", b"sound", text, 1.0 + n % 5)

    def ids(self, source: str) -> set[str]:
        return {f"{source}{n}" for n in range(self.sizes[source]) if n % 7 != 6}


def streamed(how: Ordering, window_clips: int, **weights: float | None) -> StreamingCorpus:
    sources = [SourceConfig(source=name, weight=weight) for name, weight in weights.items()]
    return StreamingCorpus(Windows(sources, window_clips, RULES, how))


@pytest.mark.medium
@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize(("size", "window_clips"), [(70, 20), (64, 20), (30, 60), (70, 60)])
def test_every_utterance_of_a_stream_once_an_epoch(
    name: str, size: int, window_clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources(monkeypatch, a=size)
    seen = met(streamed(HOW[name], window_clips, a=None), range(40), 1)
    epochs = max(epoch for epoch, _ in seen)
    assert epochs >= 2
    assert once_an_epoch(seen, sources.ids("a"), epochs)
    for workers in (2, 3):
        assert Counter(met(streamed(HOW[name], window_clips, a=None), range(40), workers)) == Counter(seen)


@pytest.mark.medium
@pytest.mark.parametrize("name", HOW)
def test_a_stream_goes_on_at_any_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Sources(monkeypatch, a=45)
    whole = list(islice(streamed(HOW[name], 20, a=None).steps(0), 20))
    for first in range(20):
        assert list(islice(streamed(HOW[name], 20, a=None).steps(first), 20 - first)) == whole[first:]


@pytest.mark.medium
def test_no_two_epochs_of_a_stream_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    Sources(monkeypatch, a=20)
    corpus = streamed(ordering(BatchingConfig(max_clips=3)), 20, a=None)
    epochs: dict[int, list[tuple[str, ...]]] = {}
    for step in islice(corpus.steps(0), 30):
        for spec in corpus.micro_batch_specs(step):
            ids = tuple(example.utterances[0].id for example in spec.examples)
            epochs.setdefault(spec.epoch, []).append(ids)
    assert len(epochs) >= 3
    assert len({tuple(ids) for ids in epochs.values()}) == len(epochs)


def test_several_streams_are_mixed_by_their_weights_and_each_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(monkeypatch, a=500, b=10)
    seen = met(streamed(ordering(BatchingConfig(max_clips=3)), 20, a=3.0, b=1.0), range(40), 1)
    counts = Counter(one.partition(":")[0] for _, one in seen)
    assert counts["0"] == pytest.approx(3 * counts["1"], rel=0.1)
    again = Counter(one for _, one in seen if one.startswith("1:"))
    assert max(again.values()) - min(again.values()) <= 2
    assert (sources.begun["a"], sources.begun["b"]) == (1, max(again.values()) + (len(set(again.values())) == 1))


def test_what_a_stream_holds_that_cannot_be_used_is_known_when_its_window_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Sources(monkeypatch, a=21)
    corpus = streamed(ordering(PLAN), 100, a=None)
    assert corpus.quarantined == []
    next(corpus.steps(0))
    assert [(each.id, each.reason) for each in corpus.quarantined] == [
        ("a6", "no_transcript"),
        ("a13", "no_transcript"),
        ("a20", "no_transcript"),
    ]


def test_a_stream_of_nothing_is_a_persons_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    Sources(monkeypatch, a=0)
    with pytest.raises(UserError, match="a: no utterance that can be trained on"):
        next(streamed(HOW["plain"], 20, a=None).steps(0))


def test_the_fingerprint_names_the_sources() -> None:
    prints = [streamed(HOW["plain"], 20, **{name: None}).fingerprint for name in ("a", "a", "b")]
    assert prints[0] == prints[1] != prints[2]


def test_one_reading_serves_all_workers_and_starts_again_for_those_that_do(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = Sources(monkeypatch, a=70)
    shared = StreamReader(Windows([SourceConfig(source="a")], 20, RULES, HOW["plain"]))

    class Actor:
        """What a handle of a Ray actor looks like, with the real references behind it."""

        class window:
            @staticmethod
            def remote(step: int) -> object:
                return streaming.ray.put(shared.window(step))

    source = streamed(HOW["plain"], 20, a=None)
    ranks = [StreamingCorpus(source._source, Actor) for _ in range(2)]
    alone = list(islice(source.steps(0), 24))
    sources.begun.clear()
    together = [step for pair in zip(*(islice(rank.steps(0), 24) for rank in ranks), strict=True) for step in pair]
    assert together[::2] == together[1::2] == alone
    once = sources.begun["a"]
    assert once == max(step[0].epoch for step in alone) + 1
    assert list(islice(ranks[0].steps(3), 21)) == alone[3:]  # after a failure, from its checkpoint on
    assert sources.begun["a"] == 2 * once
