"""transformers' trainer with our data loader."""

from __future__ import annotations

import socket
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer

from asr.io.unretryable import writing
from train.checkpoints.upload import THEN

_MOMENTS = 2 * torch.float32.itemsize


class MicroBatchTrainer(Seq2SeqTrainer):
    """Trains on a ``MicroBatchDataset`` as it comes: already batched, shared out among the workers and in order.

    Layers named in ``head`` learn ``head_learning_rate`` times as fast as the others.
    """

    head: tuple[str, ...] = ()
    head_learning_rate: float = 1.0

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return transformers' optimiser, with the weights of the head in groups of their own."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self.head:
            named = (model or self.model).named_parameters()
            fast = {weight for name, weight in named if not set(self.head).isdisjoint(name.split("."))}
            for group in list(optimizer.param_groups):
                head = [weight for weight in group["params"] if weight in fast]
                group["params"] = [weight for weight in group["params"] if weight not in fast]
                if head:
                    rate = group["lr"] * self.head_learning_rate
                    optimizer.add_param_group({**group, "params": head, "lr": rate})
        return optimizer

    def get_train_dataloader(self) -> DataLoader:
        """Return the data set itself: accelerate would slice it a second time among the workers."""
        # A generator of its own: with the global one, opening the loader would draw from it, and a resumed run would
        # go on with other dropout masks than the run that it continues.
        return DataLoader(self.train_dataset, batch_size=None, generator=torch.Generator())

    def _prepare_inputs(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Give features the precision of the base: autocast does not in a network that begins with a norm, on CPUs."""
        prepared: dict[str, torch.Tensor] = super()._prepare_inputs(inputs)
        dtype = self.model.dtype
        return {name: one.to(dtype) if one.is_floating_point() else one for name, one in prepared.items()}

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        """Name the disk that is full: this one, and not that of the run's folder."""
        path, size = Path(self.args.output_dir), checkpoint_bytes(model)
        what = f"a checkpoint of some {size / 1e6:,.1f} MB on the local disk of {socket.gethostname()}"
        with writing(path, what, THEN):
            super()._save_checkpoint(model, trial)


def checkpoint_bytes(network: nn.Module) -> int:
    """Return about what a checkpoint takes in all workers: trained weights, and AdamW's two moments in float32."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    # Of a weight that ZeRO-3 has shared out, a worker holds nothing, but DeepSpeed's note of how much it was.
    return sum(getattr(weight, "ds_numel", weight.numel()) * (weight.element_size() + _MOMENTS) for weight in trained)
