"""The small things that sizes are told in."""

from __future__ import annotations

from asr.models.capacity import BatchShape, Linear


def test_a_batch_knows_its_seconds() -> None:
    batch = BatchShape(clips=8, positions=375, tokens=1)
    assert (batch.clip_s, batch.audio_s) == (7.5, 60.0)


def test_a_linear_layer_has_a_bias_unless_it_says_otherwise() -> None:
    assert Linear("fc1", 10, 20).parameters == 220
    assert Linear("k_proj", 10, 20, bias=False).parameters == 200
