from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from asr.models.ctc.features import ClipFeatures
from asr.models.ctc.torch_backend import TorchEmitter


def test_logits_are_the_networks_in_its_own_type_and_without_gradients(
    network_of: Callable[[str], PreTrainedModel], features_of: Callable[[str], ClipFeatures]
) -> None:
    network, features = network_of("wav2vec2-large-lv60"), features_of("wav2vec2-large-lv60")
    wave = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    batch = features.pad_batch([features(wave), features(wave[:9000])])
    logits = TorchEmitter(network).logits(batch)
    assert logits.shape == (2, 49, network.config.vocab_size)
    assert logits.is_inference()
    assert TorchEmitter(network.to(torch.bfloat16)).logits(batch).dtype == torch.bfloat16
    assert TorchEmitter(network).max_batch_clips > 1
