from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
import torch

from asr.audio.features import FRAMES_PER_S
from asr.errors import UserError
from asr.models.whisper.loading import SpeechModel
from asr.models.whisper.tokens import IGNORED
from asr.utterance import Quarantined, Utterance
from tests.train.corpora import listed, ordering
from train.corpus.static import StaticCorpus
from train.corpus.table import Admitted
from train.dataloader.dataset import ConsumedBatch, MicroBatchDataset, RankSlice, WorkerShard
from train.examples import PreprocessConfig
from train.sampling.batching import MicroBatch, PlanConfig, padding

RECIPE = PreprocessConfig("builtin:tiny.en", None, "transcribe")
PLAN = PlanConfig(max_clips=4, micro_batches_per_step=2)
ALONE = RankSlice(0, 1)


def corpus(clips: Sequence[Utterance]) -> StaticCorpus:
    return listed(ordering(PLAN), [Admitted(clip, 12) for clip in clips])


def feed(clips: Sequence[Utterance], steps: range, max_quarantined_share: float = 0.05) -> MicroBatchDataset:
    return MicroBatchDataset(WorkerShard(corpus(clips), steps, ALONE), RECIPE, 50256, max_quarantined_share)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_workers_share_out_each_step_and_get_equally_many(workers: int) -> None:
    step = tuple(MicroBatch(7, context_s=float(n)) for n in range(1, 7))
    shares = [RankSlice(rank, workers).of(step) for rank in range(workers)]
    assert {len(share) for share in shares} == {-(-6 // workers)}
    given = Counter(batch for share in shares for batch in share if batch.context_s)
    assert given == Counter(step)
    idle = [batch for share in shares for batch in share if not batch.context_s]
    assert idle == [MicroBatch(7)] * (-6 % workers)


def test_batches_in_order_and_a_tally_of_what_was_fed(
    ray_cluster: None, flac_clips: list[Utterance], english_model: SpeechModel
) -> None:
    steps = list(islice(corpus(flac_clips).steps(0), 6))
    rows = [row for step in steps for row in step]
    whole = feed(flac_clips, range(6))
    batches = list(whole)
    assert [len(batch["labels"]) for batch in batches] == [len(row.items) for row in rows]
    for batch, row in zip(batches, rows, strict=True):
        first = flac_clips[row.utterances[0]]
        spoken = batch["labels"][0][batch["labels"][0] >= 0]
        heard = english_model.tokenizer.decode(spoken, skip_special_tokens=True)
        assert heard.strip() == first.text.strip()
    met = [flac_clips[i] for row in rows for i in row.utterances]
    tally = pickle.loads(pickle.dumps(whole.tally))
    assert tally.utterances == len(met)
    assert tally.audio_s == pytest.approx(sum(clip.duration_s or 0.0 for clip in met), abs=0.01)
    assert tally.tokens == sum(int((batch["labels"] != IGNORED).sum()) for batch in batches)
    assert tally.heard_frames == sum(
        batch["input_features"].shape[0] * batch["input_features"].shape[2] for batch in batches
    )
    assert tally.own_frames == pytest.approx(sum(row.own_s for row in rows) * FRAMES_PER_S, abs=len(rows))
    assert tally.padding_share == pytest.approx(padding(steps), abs=0.01)
    assert tally.quarantined == []
    ledger = whole.take_ledger()
    assert ledger == [ConsumedBatch(row.epoch, tuple(flac_clips[i].id for i in row.utterances)) for row in rows]
    assert whole.take_ledger() == []
    rest = list(feed(flac_clips, range(4, 6)))
    for batch, expected in zip(rest, batches[-4:], strict=True):
        assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_too_many_faults_stop_the_run_and_few_are_counted(ray_cluster: None, flac_clips: list[Utterance]) -> None:
    clips = [replace(clip, audio="/no/such.flac") if n % 4 == 0 else clip for n, clip in enumerate(flac_clips)]
    tolerant = feed(clips, range(4), max_quarantined_share=1.0)
    assert len(list(tolerant)) == 8
    met = [name for each in tolerant.take_ledger() for name in each.ids]
    gone = {clip.id for clip in clips if clip.audio == "/no/such.flac"}
    faults = tolerant.tally.quarantined
    assert [fault.id for fault in faults] == [name for name in met if name in gone]
    assert {fault.reason for fault in faults} == {"missing_file"}
    assert len(faults) > 2
    with pytest.raises(UserError, match=r"[3-9] of \d+ utterances could not be used, the last: missing_file: "):
        list(feed(clips, range(4), max_quarantined_share=0.02))  # of the first hundred, two are borne


def test_what_the_corpus_could_not_use_is_told_once_by_the_first_worker(
    ray_cluster: None, flac_clips: list[Utterance]
) -> None:
    source = corpus(flac_clips)
    source.quarantined = [Quarantined("silent", "no_transcript")]
    tallies = []
    for rank in range(2):
        one = MicroBatchDataset(WorkerShard(source, range(1), RankSlice(rank, 2)), RECIPE, 50256, 0.05)
        list(one)
        tallies.append(one.tally)
    assert [tally.quarantined for tally in tallies] == [source.quarantined, []]
