"""Abilities that a request may ask of a model, and the error message for a model that lacks one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from asr.errors import UserError

Ability = Literal[
    "translation", "prompt", "keywords", "temperature", "language detection", "segment times", "word times"
]


@dataclass(frozen=True)
class Refusal:
    """The sentence for an ability that a model has not: ``reason`` follows its name, ``hint`` says what to do."""

    reason: str
    hint: str


Refusals = Mapping[Ability, Refusal]
"""Of all that a model cannot do. What is not among them, it can."""


def require(name: str, asked: Iterable[Ability], refusals: Refusals) -> None:
    """Raise UserError for the first ability that is asked of the model ``name``, and that it has not."""
    for ability in asked:
        if ability in refusals:
            raise UserError(f"'{name}' {refusals[ability].reason}", refusals[ability].hint)
