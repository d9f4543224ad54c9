"""transformers' trainer, fed by us: where batches come from and how the loss is weighted."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer
from transformers.modeling_outputs import Seq2SeqLMOutput

from asr.labels import IGNORED
from asr.unretryable import writing
from train.run.upload import THEN


class WhisperTrainer(Seq2SeqTrainer):
    """Trains on a ``Feed`` as it comes: already batched, shared out among the workers and in order."""

    def get_train_dataloader(self) -> DataLoader:
        """Return the feed itself: accelerate would slice it a second time among the workers."""
        # A generator of its own: with the global one, opening the loader would draw from it, and a resumed run would
        # go on with other dropout masks than the run that it continues.
        return DataLoader(self.train_dataset, batch_size=None, generator=torch.Generator())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Name the disk that is full: this one, and not that of the run's folder."""
        place = Path(self.args.output_dir)
        with writing(place, f"a checkpoint on the local disk of {socket.gethostname()}", THEN):
            super()._save_checkpoint(model, trial)


def token_loss(
    outputs: Seq2SeqLMOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross entropy summed over tokens and divided by the tokens of the whole step, on all workers.

    Each token weighs the same, however utterances fell into micro-batches. Whisper's own loss is a mean over each
    micro-batch (transformers pull request 46068).
    """
    logits = outputs.logits.flatten(0, 1).float()
    total = torch.nn.functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    tokens = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(tokens, device=total.device).clamp(min=1)
