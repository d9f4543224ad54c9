"""torch's inference mode as a decorator that keeps what a type checker knows of a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

P = ParamSpec("P")
R = TypeVar("R")


def inference_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that runs without gradients."""
    return cast("Callable[P, R]", torch.inference_mode()(function))
