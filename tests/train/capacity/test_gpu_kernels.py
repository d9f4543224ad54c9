"""What autograd saves of a GPU's kernels, on tensors that are on none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from train.capacity.gpu_kernels import GpuKernels


def saved(compute: Callable[[torch.Tensor], torch.Tensor], *shape: int, autocast: bool) -> list[tuple[int, ...]]:
    """The bytes of a number and the numbers of each tensor that is saved of a computation."""
    found = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        found.append((tensor.element_size(), tensor.numel()))
        return tensor

    with FakeTensorMode():
        given = torch.empty(shape, requires_grad=True)
        casts = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
        with GpuKernels(), casts, saved_tensors_hooks(pack, lambda tensor: tensor):
            compute(given)
    return found


def test_a_mask_of_dropout_has_a_byte_for_each_number() -> None:
    assert saved(lambda x: functional.dropout(x, 0.1), 10, 20, autocast=False) == [(1, 200)]
    assert saved(lambda x: functional.dropout(x, 0.1, training=False), 10, 20, autocast=False) == []


def test_a_normalisation_is_computed_in_float32() -> None:
    found = saved(lambda x: functional.layer_norm(x.bfloat16(), (20,)), 10, 20, autocast=True)
    assert found == [(4, 200), (4, 10), (4, 10)]


@pytest.mark.parametrize(("autocast", "itemsize"), [(False, 4), (True, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_saves_no_matrix_of_positions(autocast: bool, itemsize: int, masked: bool) -> None:
    mask = {"attn_mask": True} if masked else {}

    def attend(x: torch.Tensor) -> torch.Tensor:
        mask = torch.empty(1, 1, 50, 50, dtype=torch.bool) if masked else None
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    found = saved(attend, 2, 3, 50, 64, autocast=autocast)
    assert mask or all(numbers <= 2 * 3 * 64 * 50 for _, numbers in found)
    assert [size for size, numbers in found if numbers == 2 * 3 * 50 * 64] == [itemsize] * 4  # q, k, v, the result
    assert any(size == 4 and 300 <= numbers <= 384 for size, numbers in found)  # a log-sum-exp for each row


def test_grouped_heads_are_repeated() -> None:
    with FakeTensorMode(), GpuKernels():
        query, key = torch.empty(2, 6, 50, 64), torch.empty(2, 3, 50, 64)
        out = functional.scaled_dot_product_attention(query, key, key, enable_gqa=True)
    assert out.shape == query.shape
