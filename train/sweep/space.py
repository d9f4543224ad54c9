"""Search space of a sweep: keys of a run's configuration, and how their values are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import yaml
from pydantic import BaseModel, Field, field_validator, model_validator

from asr.config import Section, current_name, resolve, tell_renamed
from asr.errors import UserError
from asr.parsed import JsonObject

if TYPE_CHECKING:
    from ray.tune.search.sample import Domain

_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_WORD = re.compile(r"(choice|grid|uniform|loguniform)\s*\((.*)\)\s*", re.DOTALL)


class Values(Section):
    """The values of one key; exactly one of these. ``loguniform(1e-4, 1e-2)`` is short for the last."""

    choice: tuple[object, ...] | None = Field(None, min_length=1)
    """One of these, each as likely."""
    grid: tuple[object, ...] | None = Field(None, min_length=1)
    """All of these, in every combination with other grids."""
    uniform: tuple[float, float] | None = None
    """Between two numbers."""
    loguniform: tuple[float, float] | None = None
    """Between two numbers over 0, each order of magnitude as likely."""

    @model_validator(mode="before")
    @classmethod
    def _from_a_word(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        found = _WORD.fullmatch(given.strip())
        if not found:
            raise ValueError("write choice(a, b), grid(a, b), uniform(low, high) or loguniform(low, high)")
        return {found[1]: yaml.safe_load(f"[{found[2]}]")}

    @field_validator("choice", "grid")
    @classmethod
    def _numbers(cls, given: tuple[object, ...] | None) -> tuple[object, ...] | None:
        """Read 1e-4 as a number, which YAML 1.1 takes for a word."""
        return given and tuple(
            float(one) if isinstance(one, str) and _SCIENTIFIC.fullmatch(one) else one for one in given
        )

    @model_validator(mode="after")
    def _one_way(self) -> Values:
        if sum(way is not None for way in (self.choice, self.grid, self.uniform, self.loguniform)) != 1:
            raise ValueError("takes exactly one of choice, grid, uniform, loguniform")
        if self.bounds and self.bounds[0] >= self.bounds[1]:
            raise ValueError(f"{self.bounds[0]:g} is not below {self.bounds[1]:g}")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError("loguniform begins over 0")
        return self

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The numbers between which it is drawn, or None if it is one of several values."""
        return self.uniform or self.loguniform

    def domain(self, whole: bool) -> Domain:
        """Return Ray Tune's domain of what is drawn; ``whole`` numbers with both bounds, for keys that take no other.

        A grid is no domain: all of it is tried.
        """
        import ray.tune  # a second: a mistake in a sweep is told without it

        if self.choice is not None:
            return ray.tune.choice(list(self.choice))
        assert self.bounds is not None
        low, high = self.bounds
        if whole:
            return (ray.tune.lograndint if self.loguniform else ray.tune.randint)(round(low), round(high) + 1)
        return (ray.tune.loguniform if self.loguniform else ray.tune.uniform)(low, high)


class SweepConfig(Section):
    """A sweep, beside the configuration whose keys it varies."""

    space: dict[str, Values]
    """Dotted keys of the run's configuration and their values."""
    trials: int = Field(8, ge=1)
    """Draws; with grids, of each combination. Where all keys are grids, each combination is tried once."""
    concurrent: int | None = Field(None, ge=1)
    """Trials at a time; default: as many as the cluster has room for."""
    stop_early: bool = True
    """Stop trials that do worse than others at the same step there (ASHA, Li et al., 2020)."""
    grace_steps: int | None = Field(None, ge=1)
    """No trial is stopped before this step; default: before its first evaluation."""
    reduction: float = Field(3.0, gt=1.0)
    """Of the trials that reach a step of decision, one in so many goes on; the next such step is so many
    times later."""

    @field_validator("space", mode="before")
    @classmethod
    def _dotted(cls, given: object) -> object:
        """Take nested sections, too: the command line makes them of dotted keys."""
        return dict(_flat(given)) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _varies_something(self) -> SweepConfig:
        if not self.space:
            raise ValueError("space: names no key to vary")
        return self


def resolve_sweep(words: Sequence[str]) -> SweepConfig:
    """Return the sweep that the command line describes: a YAML file, ``key=values`` of a run, or both.

    Words whose key is one of the sweep's own set that. Raises UserError naming every mistake.
    """
    files = [Path(word) for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    own = set(SweepConfig.model_fields)
    settings = [word if re.split(r"[.=]", word)[0] in own else f"space.{_quoted(word)}" for word in settings]
    return resolve(SweepConfig, files[-1] if files else None, settings).value


def under_current_names(sweep: SweepConfig, model: type[BaseModel]) -> SweepConfig:
    """Return a sweep with the names that keys of ``model`` and their values have now; warns of each that had another.

    Raises UserError where a key is varied under both names.
    """
    space: dict[str, Values] = {}
    told: list[str] = []
    for key, values in sweep.space.items():
        renamed: dict[str, tuple[object, ...]] = {}
        now, _, lines = current_name(model, key, None)
        for way in ("choice", "grid"):
            found = [current_name(model, key, one) for one in getattr(values, way) or ()]
            renamed |= {way: tuple(value for _, value, _ in found)} if found else {}
            lines += [line for *_, more in found for line in more]
        if now != key and now in sweep.space:
            raise UserError(f"sweep: {key} is the old name of {now}, and both are varied", "keep one")
        space[now] = values.model_copy(update=renamed)
        told += lines
    tell_renamed(dict.fromkeys(told), "sweep")
    return sweep.model_copy(update={"space": space})


def draw(sweep: SweepConfig, model: type[BaseModel], seed: int) -> list[JsonObject]:
    """Return the settings of all trials, none of them twice; more ``trials`` of the same sweep begin with the same."""
    random = np.random.RandomState(seed)  # what Ray Tune's domains draw from
    grids = {key: values.grid for key, values in sweep.space.items() if values.grid is not None}
    domains = {
        key: values.domain(takes_whole_numbers(model, key))
        for key, values in sweep.space.items()
        if values.grid is None
    }
    drawn: list[JsonObject] = []
    for _ in range(sweep.trials if domains else 1):
        for combination in product(*grids.values()):
            found = {key: _plain(domain.sample(random_state=random)) for key, domain in domains.items()}
            found |= dict(zip(grids, combination, strict=True))
            settings = {key: found[key] for key in sweep.space}
            if settings not in drawn:
                drawn.append(settings)
    return drawn


def takes_whole_numbers(model: type[BaseModel], key: str) -> bool:
    """Return whether a dotted key of a configuration is an integer."""
    *sections, name = key.split(".")
    for section in sections:
        field = model.model_fields.get(section)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return False
        model = field.annotation
    annotation = model.model_fields[name].annotation if name in model.model_fields else None
    return int in (annotation, *get_args(annotation)) and float not in get_args(annotation)


def _flat(tree: JsonObject, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and not value.keys() & Values.model_fields.keys():
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _quoted(word: str) -> str:
    """Return ``key=value`` with a value such as ``choice(8, 16)`` as one word of YAML."""
    key, _, value = word.partition("=")
    return f"{key}={yaml.safe_dump(value, default_style=chr(34)).strip()}" if _WORD.fullmatch(value) else word


def _plain(value: object) -> object:
    """Return numpy's numbers as Python's, floats with as many digits as anybody reads."""
    value = value.item() if isinstance(value, np.generic) else value
    return float(f"{value:.4g}") if isinstance(value, float) else value
