from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from asr.errors import UserError
from asr.utterance import Quarantined
from tests.train.corpora import listed, met, once_an_epoch, ordering, spoken
from train.augmentation.augment import Augmentation, SpeedPerturbation
from train.corpus.static import StaticCorpus, without_repeats
from train.corpus.table import ValidatedUtterance, collect
from train.sampling.batching import BatchingConfig
from train.sampling.packing import Packing

PLAN = BatchingConfig(max_clips=3, micro_batches_per_step=4)
PACKED = Packing(window_s=20.0, previous_text_share=0.5)
FASTER = Augmentation(speed=SpeedPerturbation(probability=0.5, factors=(0.8, 1.25)))


def corpora() -> dict[str, StaticCorpus]:
    return {
        "plain": listed(ordering(PLAN), spoken(70)),
        "packed": listed(ordering(PLAN, PACKED), spoken(150)),
        "packed, other speeds": listed(ordering(PLAN, PACKED, FASTER), spoken(150)),
        "two sources": listed(ordering(PLAN, PACKED), spoken(90, "a"), spoken(60, "b")),
    }


@pytest.mark.parametrize("name", corpora())
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_utterance_once_an_epoch_whatever_the_workers(name: str, workers: int) -> None:
    corpus = corpora()[name]
    ids = set(corpus.utterances.ids())
    seen = met(corpus, range(40), workers)
    epochs = max(epoch for epoch, _ in seen)  # the last one may not be over
    assert epochs >= 2
    assert once_an_epoch(seen, ids, epochs)
    assert Counter(seen) == Counter(met(corpus, range(40), 1))


@pytest.mark.medium
@pytest.mark.parametrize("name", corpora())
def test_a_resume_at_any_step_on_any_number_of_workers_is_the_rest_of_the_run(name: str) -> None:
    corpus = corpora()[name]
    whole = list(islice(corpus.steps(0), 25))
    for first in range(25):
        assert list(islice(corpora()[name].steps(first), 25 - first)) == whole[first:]
    parts = [met(corpus, range(0, 7), 2), met(corpus, range(7, 11), 1), met(corpus, range(11, 25), 3)]
    assert Counter(one for part in parts for one in part) == Counter(met(corpus, range(25), 1))


def test_no_two_epochs_alike() -> None:
    for corpus in corpora().values():
        epochs: dict[int, set[tuple[int, ...]]] = {}
        for step in islice(corpus.steps(0), 40):
            for batch in step:
                epochs.setdefault(batch.epoch, set()).add(batch.utterances)
        assert all(epochs[0] != other for epoch, other in epochs.items() if epoch)


def test_weights_draw_from_each_source_without_repeating_before_all_were_met() -> None:
    corpus = listed(ordering(PLAN), spoken(80, "a"), spoken(20, "b"), drawn=[50, 50])
    seen = met(corpus, range(40), 1)
    first = [one for epoch, one in seen if epoch == 0]
    assert Counter(one[0] for one in first) == {"a": 50, "b": 50}
    assert {Counter(first)[f"b{n}"] for n in range(20)} == {2, 3}
    assert max(Counter(one for one in first if one[0] == "a").values()) == 1


def test_windows_have_the_text_before_them() -> None:
    corpus = listed(ordering(PLAN, PACKED), spoken(150))
    specs = [spec for step in islice(corpus.steps(0), 8) for spec in corpus.micro_batch_specs(step)]
    examples = [example for spec in specs for example in spec.examples]
    with_prompt = [example for example in examples if example.previous]
    assert 0.2 < len(with_prompt) / len(examples) < 0.8
    for example in with_prompt:
        number = int(example.utterances[0].id[1:])
        assert example.previous.endswith(f"text {number - 1}")
    for example in examples:
        numbers = [int(utterance.id[1:]) for utterance in example.utterances]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_other_speeds_are_in_the_plan() -> None:
    slow = Augmentation(speed=SpeedPerturbation(probability=1.0, factors=(0.5,)))
    plan = BatchingConfig(margin_s=0.0, full_window_share=0.0)
    corpus = listed(ordering(plan, augment=slow), spoken(20))
    for spec in (spec for step in islice(corpus.steps(0), 3) for spec in corpus.micro_batch_specs(step)):
        lengths = [example.utterances[0].duration_s or 0.0 for example in spec.examples]
        assert spec.context_s == pytest.approx(2 * max(lengths))


def test_ids_that_came_before_are_quarantined() -> None:
    rows = spoken(6)
    again = [ValidatedUtterance(rows[1].utterance, 3), *spoken(2, "v")]
    quarantined: list[Quarantined] = []
    utterances, sizes = without_repeats(*collect([rows, again]), quarantined)
    assert sizes == [6, 2]
    assert utterances.ids() == ["u0", "u1", "u2", "u3", "u4", "u5", "v0", "v1"]
    assert quarantined == [Quarantined("u1", "duplicate_id")]


def test_the_fingerprint_is_that_of_the_rows_in_any_order() -> None:
    rows = spoken(30)
    prints = {listed(ordering(), part).fingerprint for part in (rows, rows[::-1])}
    assert len(prints) == 1
    assert listed(ordering(), rows[:-1]).fingerprint not in prints


def test_the_fingerprint_is_made_once_for_a_corpus_and_for_what_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = listed(ordering(), spoken(30))
    known = corpus.fingerprint
    monkeypatch.setattr(StaticCorpus, "_digest", lambda self: pytest.fail("asked for again"))
    assert corpus.fingerprint == corpus.ordered(ordering(PLAN)).fingerprint == known


def test_too_few_for_a_step_is_a_persons_mistake() -> None:
    with pytest.raises(UserError, match="micro_batches_per_step is 4, but there are 3 clips"):
        next(listed(ordering(PLAN), spoken(3)).steps(0))


def test_the_same_utterances_in_another_order_are_not_read_again() -> None:
    corpus = listed(ordering(PLAN), spoken(70))
    corpus.quarantined = [Quarantined("x", "too_long")]
    other = corpus.ordered(ordering(PLAN, seed=1))
    assert other.utterances is corpus.utterances
    assert other.quarantined == corpus.quarantined
    assert list(islice(other.steps(0), 5)) != list(islice(corpus.steps(0), 5))
    again = listed(ordering(PLAN, seed=1), spoken(70))
    assert list(islice(other.steps(0), 5)) == list(islice(again.steps(0), 5))


def test_a_corpus_is_stored_once_however_often_it_is_shared(ray_cluster: None) -> None:
    corpus = listed(ordering(PLAN), spoken(70))
    corpus.quarantined = [Quarantined("x", "too_long")]
    stored = corpus.stored()
    assert stored.quarantined == corpus.quarantined
    shared = stored.ordered(ordering(PLAN, seed=1)).shared()
    assert shared._held is stored._held
    assert shared.quarantined == []
    assert shared.fingerprint == corpus.fingerprint
