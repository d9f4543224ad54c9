from __future__ import annotations

import pytest

from asr.config import resolve
from asr.errors import RenamedWarning, UserError
from train.config import TrainConfig

NEEDED = ["base=builtin:tiny.en", "data.train=train.jsonl"]


def config(*settings: str) -> TrainConfig:
    return resolve(TrainConfig, None, [*NEEDED, *settings]).value


def test_what_must_be_given_is_named() -> None:
    with pytest.raises(UserError) as caught:
        resolve(TrainConfig, None, [])
    assert "base: Field required" in caught.value.message
    assert "data: Field required" in caught.value.message


def test_a_language_may_be_a_name() -> None:
    assert config("language=Italian").language == "it"
    assert config("language=IT").language == "it"
    assert config().language is None


def test_an_unknown_language_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"language: 'Itallian' is not a known language \(did you mean 'italian'\?\)"):
        config("language=Itallian")


def test_a_language_without_a_token_is_for_a_ctc_head_alone() -> None:
    assert config("language=Dhivehi", "head=ctc").language == "dv"
    with pytest.raises(UserError, match=r"language: Dhivehi is not one of Whisper's languages.*language=si.*head=ctc"):
        config("language=Dhivehi")


def test_a_misspelt_key_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'optim\.max_step' \(did you mean 'optim\.max_steps'\?\)"):
        config("optim.max_step=3")


def test_steps_must_be_shared_evenly_and_are_named_as_typed() -> None:
    assert config("batching.micro_batches_per_step=4", "workers.count=2").workers.count == 2
    with pytest.raises(UserError, match=r"batching\.micro_batches_per_step=3 cannot be shared by workers\.count=2"):
        config("batching.micro_batches_per_step=3", "workers.count=2")


def test_warming_up_must_end_before_the_run() -> None:
    assert config("optim.max_steps=1", "optim.warmup_steps=0").optim.max_steps == 1
    with pytest.raises(UserError, match=r"optim\.warmup_steps=10 leaves nothing of optim\.max_steps=10"):
        config("optim.max_steps=10")


def test_all_mistakes_at_once() -> None:
    with pytest.raises(UserError) as caught:
        config("strategy=lore", "run.name=a/b", "batching.max_audio_s=10", "data.max_quarantined_share=2")
    for key in ("strategy", "run.name", "batching.max_audio_s", "data.max_quarantined_share"):
        assert f"command line: {key}: " in caught.value.message


def test_the_names_of_the_version_before_are_read_with_a_warning() -> None:
    old = ["plan.max_clips=3", "evaluation.where=beside", "run.ledger=true", "data.validation=b.jsonl"]
    with pytest.warns(RenamedWarning) as told:
        found = config(*old, "workers.elastic={max: 1, look_every_s: 5}")
    assert found.batching.max_clips == 3 and found.evaluation.mode == "async" and found.run.data_log
    assert found.workers.elastic is not None and found.workers.elastic.resize_interval_s == 5.0
    assert len(told) == 5  # where=beside are two
