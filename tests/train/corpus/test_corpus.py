from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray

from asr.errors import UserError
from asr.models.head import InitialModel
from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.train.corpora import met, ordering
from train.corpus.corpus import Corpus, load
from train.corpus.streaming import StreamingCorpus, Windows
from train.corpus.validation import CorpusValidator
from train.data.config import DataConfig
from train.examples import PreprocessConfig
from train.sampling.batching import BatchingConfig
from train.sampling.packing import Packing

RULES = CorpusValidator(PreprocessConfig(InitialModel("builtin:tiny.en"), None, "transcribe"))
PLAN = BatchingConfig(max_clips=4, micro_batches_per_step=2)


def data(**given: Any) -> DataConfig:
    return DataConfig.model_validate(given)


def manifest(folder: Path, rows: list[Utterance], name: str = "train.jsonl") -> str:
    write_beside(folder / name, rows)
    return str(folder / name)


def rows(count: int) -> list[Utterance]:
    return [Utterance(f"u{n}", f"/clips/u{n}.wav", f"text {n}", 0.5 + n % 8) for n in range(count)]


@pytest.mark.medium
def test_a_manifest_as_a_corpus(tmp_path: Path) -> None:
    bad = [replace(rows(1)[0], id="silent", text=""), replace(rows(1)[0], id="lecture", duration_s=99.0)]
    corpus = load(data(train=manifest(tmp_path, [*rows(60), *bad])), RULES, ordering(PLAN))
    assert [(each.id, each.reason) for each in corpus.quarantined] == [
        ("silent", "no_transcript"),
        ("lecture", "too_long"),
    ]
    first = Counter(one for epoch, one in met(corpus, range(30), 1) if epoch == 0)
    assert first == Counter(f"u{n}" for n in range(60))


@pytest.mark.medium
def test_several_sources_with_equal_ids(tmp_path: Path) -> None:
    one, two = manifest(tmp_path, rows(40), "one.jsonl"), manifest(tmp_path, rows(10), "two.jsonl")
    corpus = load(data(train=[one, two]), RULES, ordering(PLAN))
    first = Counter(name for epoch, name in met(corpus, range(30), 1) if epoch == 0)
    assert first == Counter([*(f"0:u{n}" for n in range(40)), *(f"1:u{n}" for n in range(10))])
    even = load(data(train=[{"source": one, "weight": 1}, {"source": two, "weight": 1}]), RULES, ordering(PLAN))
    drawn = Counter(name[0] for epoch, name in met(even, range(30), 1) if epoch == 0)
    assert drawn == {"0": 25, "1": 25}
    warm = load(data(train=[one, two], temperature=2.0), RULES, ordering(PLAN))
    drawn = Counter(name[0] for epoch, name in met(warm, range(30), 1) if epoch == 0)
    assert drawn == {"0": 33, "1": 17}


def test_too_much_in_quarantine_and_nothing_left_are_persons_mistakes(tmp_path: Path) -> None:
    silent = [replace(row, id=f"s{row.id}", text="") for row in rows(6)]
    place = manifest(tmp_path, [*rows(50), *silent])
    with pytest.raises(UserError, match="6 of 56 utterances could not be used, the last: no_transcript: su5"):
        load(data(train=place), RULES, ordering(PLAN))
    load(data(train=place, max_quarantined_share=0.06), RULES, ordering(PLAN))
    with pytest.raises(UserError, match=r"only\.jsonl: no utterance .* su5: no_transcript"):
        load(data(train=manifest(tmp_path, silent, "only.jsonl"), max_quarantined_share=1), RULES, ordering(PLAN))


def test_a_language_that_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    italian = replace(rows(1)[0], id="it", language="it")
    with pytest.raises(UserError, match="English only, not 'it'"):
        load(data(train=manifest(tmp_path, [*rows(9), italian])), RULES, ordering(PLAN))
    stream = {"source": "hf:some/where", "streaming": True, "language": "it"}
    with pytest.raises(UserError, match="English only, not 'it'"):
        load(data(train=stream), RULES, ordering(PLAN))


def test_a_shared_corpus_is_small_and_the_same(ray_cluster: None, tmp_path: Path) -> None:
    corpus = load(data(train=manifest(tmp_path, rows(3000))), RULES, ordering(PLAN, Packing(window_s=20.0)))
    shared = corpus.shared()
    assert len(ray.cloudpickle.dumps(shared)) < 10_000

    @ray.remote(num_cpus=0)
    def elsewhere(given: dict[str, Corpus]) -> list[Any]:
        steps = given["corpus"].steps(5)
        return [(step, given["corpus"].micro_batch_specs(step)) for step in islice(steps, 3)]

    here = [(step, corpus.micro_batch_specs(step)) for step in islice(corpus.steps(5), 3)]
    assert ray.get(elsewhere.remote({"corpus": shared})) == here


def test_a_shared_stream_is_read_by_an_actor(ray_cluster: None, tmp_path: Path) -> None:
    """A stream that needs no network: a manifest, taken for one."""
    place = manifest(tmp_path, [*rows(50), replace(rows(1)[0], id="it", language="it")])
    good = data(train=manifest(tmp_path, rows(50), "good.jsonl"))
    stream = StreamingCorpus(Windows(good.sources, 20, RULES, ordering(PLAN)))
    shared = stream.shared()
    assert list(islice(shared.steps(4), 10)) == list(islice(stream.steps(4), 10))
    bad = StreamingCorpus(Windows(data(train=place).sources, 20, RULES, ordering(PLAN))).shared()
    with pytest.raises(UserError, match="English only, not 'it'"):  # and no traceback around it
        list(islice(bad.steps(0), 10))
