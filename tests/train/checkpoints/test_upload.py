from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray.train
from ray.train import Checkpoint, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from train.checkpoints.upload import CheckpointUploads, persist

PATIENCE_S = 60.0


def appears(path: Path, text: str = "") -> None:
    """Return when a file is there and holds ``text``."""
    until = time.monotonic() + PATIENCE_S
    while not (path.is_file() and text in path.read_text()):
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.01)


def run(folder: Path, killed_at: str | None) -> ray.train.Result:
    """Train five steps with a checkpoint each. The worker dies in the midst of uploading ``killed_at``."""

    def copy(checkpoint: Checkpoint, name: str) -> Checkpoint:
        if name == killed_at:
            appears(folder / f"trained on after {name}")
            appears(folder / "run" / "checkpoint_manager_snapshot.json", "step_0000002")
            half = folder / "run" / name
            half.mkdir(parents=True)
            (half / "weights").write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
        return persist(checkpoint, name)

    def loop(config: dict[str, Any]) -> None:
        uploads, local = CheckpointUploads(copy), Path.cwd() / f"local {killed_at}"
        checkpoint = ray.train.get_checkpoint()
        begin = 0
        if checkpoint is not None:
            with checkpoint.as_directory() as whole:
                begin = int(Path(whole, "weights").read_text().removeprefix("weights of step "))
        for step in range(begin + 1, 6):
            name = f"step_{step:07d}"
            (local / name).mkdir(parents=True)
            (local / name / "weights").write_text(f"weights of step {step}")
            assert len(list(local.iterdir())) <= 2
            uploads.report({"step": step, "begin": begin}, local / name, name)
            (folder / f"trained on after {name}").touch()
        uploads.wait()
        assert list(local.iterdir()) == []

    storage = RunConfig(name="run", storage_path=str(folder))
    return TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=1), run_config=storage).fit()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_killed_during_a_slow_upload_goes_on_from_the_last_whole_checkpoint(tmp_path: Path) -> None:
    """The third checkpoint is on its way, and training goes on meanwhile, when the worker dies."""
    with pytest.raises(ray.train.WorkerGroupError):
        run(tmp_path, killed_at="step_0000003")
    assert (tmp_path / "run" / "step_0000003" / "weights").read_text() == "ha"
    assert not (tmp_path / "trained on after step_0000004").exists()  # two local copies are enough
    result = run(tmp_path, killed_at=None)
    assert result.metrics == {"step": 5, "begin": 2}
    for step in range(1, 6):
        assert (tmp_path / "run" / f"step_{step:07d}" / "weights").read_text() == f"weights of step {step}"


def test_in_local_mode_nothing_is_uploaded_and_nothing_waits(tmp_path: Path) -> None:
    def loop(config: dict[str, Any]) -> None:
        uploads = CheckpointUploads()
        for step in (1, 2, 3):
            uploads.report({"step": step}, tmp_path, f"step_{step}")
        uploads.wait()

    result = TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=0)).fit()
    assert result.metrics == {"step": 3}
    assert tmp_path.is_dir()
