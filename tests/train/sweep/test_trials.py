from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import RenamedWarning, UserError
from train.sweep.space import resolve_sweep
from train.sweep.trials import Trial, make_trials

BASE = ["base=builtin:tiny.en", "data.train=t.jsonl", "data.validation=v.jsonl", "run.folder=/runs", "run.name=mine"]


def trials(*varied: str, base: list[str] | None = None) -> list[Trial]:
    return make_trials(resolve_sweep(varied), None, base or BASE)


def test_each_trial_is_a_run_of_its_own_in_the_folder_of_the_sweep() -> None:
    first, second = trials("optim.learning_rate=grid(0.01, 1e-4)", base=[*BASE, "lora.rank=4"])
    assert (first.config.optim.learning_rate, second.config.optim.learning_rate) == (0.01, 1e-4)
    assert [one.run.uri for one in (first, second)] == ["/runs/mine/trials/000", "/runs/mine/trials/001"]
    assert first.config.lora.rank == second.config.lora.rank == 4
    assert first.config.evaluation.mode == "sync"
    assert second.label == "trial 001 (optim.learning_rate=0.0001)"


def test_trials_share_their_data_unless_it_is_what_differs() -> None:
    first, second = trials("batching.max_clips=grid(4, 8)")
    assert first.data_key == second.data_key
    first, second = trials("data.temperature=grid(1, 3)")
    assert first.data_key != second.data_key


@pytest.mark.filterwarnings("ignore::asr.errors.RenamedWarning")
def test_the_old_name_of_a_key_was_not_known_for_a_whole_number() -> None:
    for now, before in (("batching.max_clips", "plan.max_clips"), ("evaluation.mode", "evaluation.where")):
        for way, values in (("choice", "inline, beside"), ("grid", "beside, inline")):
            old = f"{way}({values})" if now == "evaluation.mode" else "uniform(2, 8)"
            new = old.replace("inline", "sync").replace("beside", "async")
            assert [one.settings for one in trials(f"{before}={old}")] == [
                one.settings for one in trials(f"{now}={new}")
            ]


def test_the_old_name_of_a_key_is_told_once_and_its_mistakes_are_too() -> None:
    with (
        pytest.warns(RenamedWarning) as told,
        pytest.raises(UserError, match=r"sweep: evaluation\.mode: Input should be"),
    ):
        trials("evaluation.where=choice(besides, inline)")
    assert [str(one.message).partition(";")[0] for one in told] == [
        "sweep: evaluation.where is now called evaluation.mode",
        "sweep: evaluation.mode=inline is now called sync",
    ]
    with pytest.raises(UserError, match=r"plan\.max_clips is the old name of batching\.max_clips, and both are varied"):
        trials("batching.max_clips=choice(2, 8)", "plan.max_clips=choice(3, 9)")


def test_every_mistake_is_named_before_anything_starts() -> None:
    with pytest.raises(UserError) as caught:
        trials(
            "optim.learning_rat=uniform(0, 1)",
            "lora.rank=choice(8, -1, x)",
            "strategy=grid(lora)",
            "run.name=choice(a)",
        )
    assert caught.value.message.splitlines() == [
        "sweep: run.name: cannot be varied, it names the sweep",
        "sweep: unknown key 'optim.learning_rat' (did you mean 'optim.learning_rate'?)",
        "sweep: lora.rank: Input should be greater than or equal to 1, got -1",
        "sweep: lora.rank: Input should be a valid integer, unable to parse string as an integer, got 'x'",
    ]
    with pytest.raises(UserError, match=r"learning_rate: Input should be greater than 0, got -1"):
        trials("optim.learning_rate=uniform(-1, 1)")


def test_settings_that_do_not_go_together_are_named_with_the_trial() -> None:
    with pytest.raises(UserError, match=r"sweep: optim.warmup_steps=200 optim.max_steps=100: .*leaves nothing of"):
        trials("optim.warmup_steps=grid(5, 200)", "optim.max_steps=grid(100, 300)")
    assert len(trials("parallelism=grid(zero2)", "offload=grid(none, cpu)")) == 2  # cpu alone would need zero2


def test_a_sweep_needs_something_to_compare_by(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.validation is not set"):
        trials("lora.rank=grid(1, 2)", base=BASE[:2])
    with pytest.raises(UserError, match=r"data\.validation: cannot be varied"):
        trials("data=choice({train: a, validation: b})")


def test_keys_of_a_ctc_head_are_varied_and_trials_of_other_labels_share_no_data() -> None:
    head = [*BASE, "head=ctc"]
    first, second = trials("ctc.casing=grid(keep, lower)", base=head)
    assert [one.config.ctc.casing for one in (first, second)] == ["keep", "lower"]
    assert first.data_key != second.data_key
    first, second = trials("ctc.head_learning_rate=grid(1, 10)", base=head)
    assert first.data_key == second.data_key
    first, second = trials("head=grid(ctc, null)", base=BASE)
    assert [one.config.head for one in (first, second)] == ["ctc", None]
    with pytest.raises(UserError, match=r"sweep: ctc\.casing: Input should be"):
        trials("ctc.casing=grid(title, lower)", base=head)
