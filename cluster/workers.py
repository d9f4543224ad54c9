"""Workers that a run requests from the cluster: so many, with so much each."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from asr.config import Renamed, Section
from cluster.resources import threads_each


class Elastic(Section):
    """Bounds on the number of workers of a run that takes what the cluster has."""

    renamed: ClassVar = {"look_every_s": Renamed("resize_interval_s")}

    min: int = Field(1, ge=1)
    """Least number of workers. The run waits for it."""
    max: int = Field(ge=1)
    """Most workers that are requested. Required where ``elastic`` is set."""
    resize_interval_s: float = Field(60.0, gt=0.0)
    """Seconds between checks whether more workers fit. Each change costs a restart from the last checkpoint."""

    @model_validator(mode="after")
    def _order(self) -> Elastic:
        if self.min > self.max:
            raise ValueError(f"min={self.min} is above max={self.max}")
        return self


class Workers(Section):
    """The training workers. Data preparation runs beside them on CPUs of its own."""

    count: int = Field(1, ge=1)
    """Workers; each holds a copy of the model, or with DeepSpeed a share of it."""
    elastic: Elastic | None = None
    """In place of ``count``: start with as many as there are, go on with fewer after a node was lost, grow again."""
    cpus_each: int = Field(0, ge=0)
    """CPU threads of a worker; 0 takes all cores of this machine, or 4 beside a GPU."""
    gpu: bool = False
    """Give each worker a GPU."""
    data_tasks_each: int = Field(1, ge=1)
    """Ray Data tasks that prepare data for a worker at a time, each up to 96 MiB of features ahead. One keeps up with a
    CPU; a GPU wants four and more."""
    price_per_hour: float | None = Field(None, ge=0.0)
    """Price of a worker's device (its GPU, or its CPU cores) for an hour, in any currency."""
    max_failures: int = Field(2, ge=0)
    """Restarts of a run from the same checkpoint after a worker died; each new checkpoint sets the count to zero."""

    @property
    def threads(self) -> int:
        """CPU threads of one worker."""
        return threads_each(self.cpus_each, self.gpu, self.most)

    @property
    def least(self) -> int:
        """Workers without which a run does not begin."""
        return self.elastic.min if self.elastic else self.count

    @property
    def most(self) -> int:
        """Workers that a run asks for."""
        return self.elastic.max if self.elastic else self.count
