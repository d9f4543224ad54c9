"""CTC's loss: the probability of all ways to spell a transcript over the encoder's positions.

Graves et al., "Connectionist Temporal Classification", ICML 2006. Legend: B clips, T positions, V symbols, L labels.
"""

from __future__ import annotations

import torch
from torch import nn

from asr.errors import UserError
from asr.models.processor import IGNORED
from asr.models.training import NetworkOutput

PATIENCE_STEPS = 100
"""Steps after the warm-up within which a network must have begun to spell: the head of one that learns needs thirty."""
MUTE = 0.1
"""Symbols for each one of the transcripts below which a network spells nothing; one that has learnt has one to two."""


class CtcLoss:
    """The sum of the clips' losses, in float32, divided by the symbols of the whole step on all workers.

    The positions of padding are blank for certain (see ``blank_padding``), so that all clips are as long as the batch.
    A transcript that does not fit its clip has an infinite loss: clips like that are quarantined before, and never
    hidden by ``zero_infinity``.
    """

    def __init__(self, blank: int) -> None:
        self._blank = blank
        self._counts = torch.zeros(3, dtype=torch.long)  # positions, those that are not blank, symbols of transcripts
        self._last = self._counts

    def __call__(
        self, outputs: NetworkOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss of a micro-batch: logits [B, T, V], labels int64 [B, L], -100 where there is none."""
        scored_BL = labels != IGNORED
        lengths_B = scored_BL.sum(1)
        self._count(outputs.logits.detach(), lengths_B.sum())
        losses_B = nn.functional.ctc_loss(
            outputs.logits.float().log_softmax(-1).transpose(0, 1),
            torch.where(scored_BL, labels, self._blank),
            torch.full_like(lengths_B, outputs.logits.shape[1]),
            lengths_B,
            blank=self._blank,
            reduction="none",
        )
        total = torch.where(lengths_B > 0, losses_B, 0.0 * losses_B).sum()  # nothing is scored on an idle micro-batch
        symbols = lengths_B.sum() if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(symbols, device=total.device).clamp(min=1)

    def measures(self) -> dict[str, float]:
        """Return the share of positions whose likeliest symbol is the blank, since the last call."""
        self._last, self._counts = self._counts, torch.zeros_like(self._counts)
        positions, spelled, _ = self._last.tolist()
        return {"blank_share": 1.0 - spelled / positions} if positions else {}

    def fault(self, steps: int) -> UserError | None:
        """Return that nothing is spelled, where that is so long after the warm-up."""
        positions, spelled, symbols = self._last.tolist()
        if steps < PATIENCE_STEPS or spelled >= MUTE * symbols:
            return None
        return UserError(
            f"{steps} steps after the warm-up {1 - spelled / positions:.1%} of all positions are blank: "
            "the network spells nothing",
            "raise optim.learning_rate or ctc.head_learning_rate, lengthen optim.warmup_steps, and see with "
            "`whisperfleet check` that transcripts and vocabulary have one letter case",
        )

    def _count(self, logits_BTV: torch.Tensor, symbols: torch.Tensor) -> None:
        spelled_BT = logits_BTV.argmax(-1) != self._blank
        counts = torch.stack([torch.tensor(spelled_BT.numel(), device=symbols.device), spelled_BT.sum(), symbols])
        self._counts = self._counts.to(symbols.device) + counts  # on the device: nothing waits for it at each step
