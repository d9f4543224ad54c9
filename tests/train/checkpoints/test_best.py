from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import ray.train

from asr.io import storage
from train.checkpoints.best import RECORD, Best, checkpoint, find, keep
from train.checkpoints.upload import STATE

TRAINING_ONLY = ("optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin")


def rates(wer: float) -> dict[str, Any]:
    return {"wer": {"rate": wer, "low": wer - 0.01, "high": wer + 0.02}}


def written(folder: Path, step: int) -> Path:
    """A checkpoint as transformers' trainer leaves it."""
    source = folder / f"checkpoint-{step}"
    source.mkdir()
    for name in TRAINING_ONLY:
        (source / name).write_text("much")
    (source / "adapter_model.safetensors").write_text(f"weights of step {step}")
    (source / "adapter_config.json").write_text("{}")
    (source / STATE).write_text(json.dumps({"step": step}))
    return source


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "run" / "best")
    return storage.join(request.getfixturevalue("s3"), tmp_path.name, "best")


@pytest.mark.medium
def test_weights_are_replaced_by_better_ones_only(place: str, tmp_path: Path) -> None:
    assert find(place) is None
    assert checkpoint(place) is None
    steps = {10: 0.5, 20: 0.2, 30: 0.2, 40: 0.3}
    kept = [keep(place, written(tmp_path, step), step, rates(wer)) for step, wer in steps.items()]
    assert kept == [True, True, False, False]
    assert find(place) == Best(20, 0.2, pytest.approx(0.19), pytest.approx(0.22))
    assert storage.list_folders(place) == ["step_0000020"]
    names = [entry.name for entry in storage.list_files(storage.join(place, "step_0000020"))]
    assert names == ["adapter_config.json", "adapter_model.safetensors", STATE]
    best = checkpoint(place)
    assert isinstance(best, ray.train.Checkpoint)
    with best.as_directory() as folder:
        assert Path(folder, "adapter_model.safetensors").read_text() == "weights of step 20"


def test_a_step_that_is_trained_again_replaces_itself(tmp_path: Path) -> None:
    place, source = str(tmp_path / "best"), written(tmp_path, 10)
    keep(place, source, 10, rates(0.2))
    (source / "adapter_model.safetensors").write_text("other weights of step 10")
    assert keep(place, source, 10, rates(0.3))
    assert find(place) == Best(10, 0.3, pytest.approx(0.29), pytest.approx(0.32))


def test_weights_of_which_a_half_arrived_are_not_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = str(tmp_path / "best")
    keep(place, written(tmp_path, 10), 10, rates(0.5))
    real = storage.write_text

    def broken(where: str, text: str) -> None:
        raise OSError("the worker dies here")

    monkeypatch.setattr(storage, "write_text", broken)
    with pytest.raises(OSError, match="dies here"):
        keep(place, written(tmp_path, 20), 20, rates(0.1))
    monkeypatch.setattr(storage, "write_text", real)
    best = find(place)
    assert best is not None
    assert best.step == 10
    assert Path(place, best.folder, "adapter_model.safetensors").read_text() == "weights of step 10"
    (Path(place) / best.folder / STATE).unlink()
    assert find(place) is None
    assert json.loads((Path(place) / RECORD).read_text())["step"] == 10
