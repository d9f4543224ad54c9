"""Padding of planned micro-batches, reckoned from the plan alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from train.sampling.batching import MicroBatch


def padding(steps: Iterable[Sequence[MicroBatch]]) -> float:
    """Return the share of the encoder's input that is beyond each clip's own planned context.

    A clip's own context is its speech and its margin of silence, or 30 s where the full window was drawn: these are
    trained on purpose, and are no padding.
    """
    batches = [batch for step in steps for batch in step]
    padded_s = sum(len(batch.items) * batch.context_s for batch in batches)
    return 1.0 - sum(batch.own_s for batch in batches) / padded_s if padded_s else 0.0
