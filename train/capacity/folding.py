"""A network of many equal layers, folded: what one of them takes, the others take as well.

A step without numbers costs as much time as the network has layers, not as it has weights.
"""

from __future__ import annotations

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

_KEPT = 3  # the first and the last may differ from the others by what is before and behind them
_PLAIN = (bool, int, float, str, tuple, type(None))


def layers_of(network: nn.Module) -> list[nn.Module]:
    """Return the layers that activation checkpointing goes by."""
    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]


def fold(network: nn.Module) -> dict[nn.Module, int]:
    """Leave three of each stack of equal layers, and return for how many the middle one of them stands.

    A stack stays whole where its layers differ in a weight's shape, a class or a setting, but for their number.
    """
    copies = {}
    for stack in network.modules():
        if isinstance(stack, nn.ModuleList) and len(stack) > _KEPT:
            layers = list(stack)
            checkpointed = all(isinstance(layer, GradientCheckpointingLayer) for layer in layers)
            if checkpointed and len({_description(layer) for layer in layers}) == 1:
                copies[layers[1]] = len(layers) - _KEPT + 1
                del stack[2:-1]
    return copies


def _description(layer: nn.Module) -> str:
    """Return all that tells a layer from another of its stack."""
    told = []
    for path, module in layer.named_modules():
        settings = {
            name: value for name, value in vars(module).items() if isinstance(value, _PLAIN) and name != "layer_idx"
        }
        weights = [
            (name, weight.shape, weight.dtype, weight.requires_grad)
            for name, weight in module.named_parameters(recurse=False)
        ]
        told.append((path, type(module), sorted(settings.items()), weights))
    return repr(told)
