"""Whisper with an encoder that runs on the frames there are, instead of always on 30 s.

Legend: B rows, S encoder positions (20 ms each), D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import WhisperConfig, WhisperForConditionalGeneration

from asr.models.any_context_encoder import AnyContextEncoder


class AnyContextWhisper(WhisperForConditionalGeneration):
    """Whisper with the same weights and names, accepting features of any even length."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__(config)
        self.model.encoder = AnyContextEncoder(config)
        self.post_init()

    def save_pretrained(
        self, *args: object, state_dict: dict[str, torch.Tensor] | None = None, **kwargs: object
    ) -> None:
        """Save as transformers does, but the tied embeddings once: DeepSpeed hands over copies under both names."""
        if state_dict is not None and self.config.tie_word_embeddings:
            state_dict = {name: weight for name, weight in state_dict.items() if name != "proj_out.weight"}
        super().save_pretrained(*args, state_dict=state_dict, **kwargs)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Answer PEFT 0.21 under the name that it asks for, which transformers 5.23 has deprecated with a warning."""
        return bool(self.is_activation_checkpointing)


def pad_encoder_states(states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Put encoder states [B, S, D] of several contexts into one batch, each row padded to the longest.

    With them comes what is added to attention scores so that no row sees its padding [B, 1, 1, S]; None where there
    is no padding.
    """
    longest = max(one.shape[1] for one in states)
    if all(one.shape[1] == longest for one in states):
        return states[0] if len(states) == 1 else torch.cat(list(states)), None
    padded_BSD = torch.cat([nn.functional.pad(one, (0, 0, 0, longest - one.shape[1])) for one in states])
    lengths_B = torch.tensor([one.shape[1] for one in states for _ in range(len(one))], device=padded_BSD.device)
    mask_BS = torch.zeros(padded_BSD.shape[:2], dtype=padded_BSD.dtype, device=padded_BSD.device)
    mask_BS.masked_fill_(
        torch.arange(longest, device=mask_BS.device) >= lengths_B[:, None], torch.finfo(mask_BS.dtype).min
    )
    return padded_BSD, mask_BS[:, None, None]


@contextmanager
def cross_attention_mask(
    network: WhisperForConditionalGeneration, mask: Callable[[], torch.Tensor | None]
) -> Iterator[None]:
    """Have the decoder add ``mask()``, as ``pad_encoder_states`` returns it, to its scores over the encoder's states.

    Transformers' decoder layers take such a mask, but the decoder hands them none.
    """

    def see(
        module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return args, kwargs | {"attention_mask": mask()}

    layers: nn.ModuleList = network.model.decoder.layers
    handles = [layer.encoder_attn.register_forward_pre_hook(see, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
