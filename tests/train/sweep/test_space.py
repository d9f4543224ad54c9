from __future__ import annotations

import re
from pathlib import Path

import pytest

from asr.errors import UserError
from train.config import TrainConfig
from train.sweep.space import draw, resolve_sweep, takes_whole_numbers


def test_the_command_line_and_a_file_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "space:\n"
        "  optim.learning_rate: {loguniform: [1e-4, 1e-2]}\n"
        "  lora:\n    rank: choice(8, 16)\n"
        "  strategy: grid(lora, full)\n"
        "trials: 3\n"
    )
    words = ["optim.learning_rate=loguniform(1e-4, 1e-2)", "lora.rank={choice: [8, 16]}", "strategy=grid(lora, full)"]
    found = resolve_sweep([str(file)])
    assert found == resolve_sweep([*words, "trials=3"])
    assert list(found.space) == ["optim.learning_rate", "lora.rank", "strategy"]
    assert resolve_sweep([str(file), "trials=5", "reduction=2"]).trials == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lora.rank=loguniform(9, 2)"], "lora.rank: 9 is not below 2"),
        (["lora.rank=loguniform(0, 2)"], "loguniform begins over 0"),
        (["lora.rank=normal(0, 2)"], r"write choice\(a, b\)"),
        (["lora.rank={choice: [1], grid: [2]}"], "exactly one of"),
        (["lora.rank=choice(1)", "trials=0"], "trials: .*greater than or equal to 1, got 0"),
        (["trials=3"], "space: Field required"),
    ],
)
def test_mistakes_are_named(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve_sweep(words)


def test_draws_lie_within_bounds_and_begin_alike_however_many() -> None:
    words = ["optim.learning_rate=loguniform(1e-4, 1e-2)", "lora.rank=uniform(4, 9)", "strategy=grid(lora, full)"]
    five = draw(resolve_sweep([*words, "trials=5"]), TrainConfig, 1)
    assert len(five) == 10
    assert [settings["strategy"] for settings in five[:4]] == ["lora", "full", "lora", "full"]
    assert all(type(settings["lora.rank"]) is int and 4 <= settings["lora.rank"] <= 9 for settings in five)
    assert all(1e-4 <= settings["optim.learning_rate"] <= 1e-2 for settings in five)
    assert draw(resolve_sweep([*words, "trials=7"]), TrainConfig, 1)[:10] == five
    assert draw(resolve_sweep([*words, "trials=5"]), TrainConfig, 2) != five


def test_grids_alone_are_tried_once_and_nothing_is_tried_twice() -> None:
    grids = resolve_sweep(["lora.rank=grid(4, 8)", "lora.alpha=grid(4, 8)", "trials=9"])
    assert len(draw(grids, TrainConfig, 0)) == 4
    assert len(draw(resolve_sweep(["lora.rank=choice(4, 8)", "trials=50"]), TrainConfig, 0)) == 2


def test_whole_numbers() -> None:
    assert takes_whole_numbers(TrainConfig, "lora.rank")
    assert takes_whole_numbers(TrainConfig, "evaluation.patience")
    assert not takes_whole_numbers(TrainConfig, "optim.learning_rate")
    assert not takes_whole_numbers(TrainConfig, "lora.rnk")
    assert not takes_whole_numbers(TrainConfig, "language.x")


def test_what_the_guide_shows_is_a_sweep(tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    (tmp_path / "sweep.yaml").write_text(block)
    assert resolve_sweep([str(tmp_path / "sweep.yaml")]).reduction == 3
    words = re.findall(r"--sweep '?([\w.]+=[^'\n]+)'?", guide)
    assert len(words) == 3
    assert len(draw(resolve_sweep([word.strip() for word in words]), TrainConfig, 0)) == 8
