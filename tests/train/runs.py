"""Small real runs, and what was planned for them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file

from asr.config import resolve
from asr.utterance import Utterance
from train.config import TrainConfig
from train.events import Progress
from train.run.fit import Fitted, fit, training_data

STEPS = 20  # small networks take a tenth of a second for each: what stops a run a second later must find it running


@dataclass
class Runs:
    """Configurations over one manifest, and one run that nobody interrupted."""

    folder: Path
    manifest: Path
    clips: list[Utterance]
    base: str

    def config(self, name: str, *settings: str) -> TrainConfig:
        return resolve(TrainConfig, None, [*self.settings(name), *settings]).value

    def settings(self, name: str) -> list[str]:
        return [
            f"base={self.base}",
            f"data.train={self.manifest}",
            f"run.folder={self.folder}",
            f"run.name={name}",
            f"optim.max_steps={STEPS}",
            "optim.warmup_steps=1",
            "run.checkpoint_every_steps=2",
            "batching.max_clips=4",
            "batching.micro_batches_per_step=2",
            "batching.full_window_share=0",
            "lora.rank=4",
            "workers.cpus_each=1",
        ]


@dataclass
class Finished:
    fitted: Fitted
    progress: list[Progress]
    adapter: dict[str, torch.Tensor]


def finish(config: TrainConfig) -> Finished:
    seen: list[Progress] = []
    fitted = fit(config, seen.append)
    return Finished(fitted, seen, load_file(Path(fitted.artifact, "adapter_model.safetensors")))


def planned(config: TrainConfig) -> list[list[str]]:
    """The ids of each step, as the plan alone has them."""
    corpus = training_data(config).corpus
    steps = islice(corpus.steps(0), config.optim.max_steps)
    return [
        [clip.id for spec in corpus.micro_batch_specs(step) for example in spec.examples for clip in example.utterances]
        for step in steps
    ]
