"""What a run asks of the cluster: so many workers, with so much each."""

from __future__ import annotations

import ray.train
from pydantic import Field

from asr.config import Section
from cluster.resources import require, threads_each


class Workers(Section):
    """The training workers. Data preparation runs beside them on CPUs of its own."""

    count: int = Field(1, ge=1)
    """Workers; each holds a copy of the model."""
    cpus_each: int = Field(0, ge=0)
    """CPU threads of a worker; 0 takes all cores of this machine, or 4 beside a GPU."""
    gpu: bool = False
    """Whether each worker has a GPU."""
    data_tasks_each: int = Field(1, ge=1)
    """Ray Data tasks that prepare data for a worker at a time. One keeps up with a CPU; a GPU wants four and more."""
    max_failures: int = Field(2, ge=0)
    """How often a run goes on from its last checkpoint after a worker died."""

    @property
    def threads(self) -> int:
        """CPU threads of one worker."""
        return threads_each(self.cpus_each, self.gpu, self.count)

    def require(self) -> None:
        """Raise UserError where the connected cluster is too small: Ray Train would wait for ever."""
        wanted = {"CPU": self.count * self.threads, "GPU": self.count * self.gpu}
        hints = {"CPU": "lower workers.count or workers.cpus_each", "GPU": "workers.gpu=false, or fewer workers"}
        require(wanted, "training", hints)

    def scaling_config(self) -> ray.train.ScalingConfig:
        """Return the same for Ray Train."""
        return ray.train.ScalingConfig(
            num_workers=self.count,
            use_gpu=self.gpu,
            resources_per_worker={"CPU": self.threads} | ({"GPU": 1} if self.gpu else {}),
        )
