"""The trials of a sweep: a configuration each, all of them valid before the first one starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import resolve
from asr.errors import UserError
from asr.io import storage
from asr.parsed import JsonObject
from train.config import TrainConfig
from train.sweep.space import SweepConfig, Values, draw, under_current_names

if TYPE_CHECKING:
    from train.checkpoints.run_folder import RunFolder

TRIALS = "trials"  # the folder of the trials' runs, in that of the sweep
_FROM = "command line: "  # how asr.config calls what is not from a file

# What a sweep needs for itself, or what would make error rates of two trials those of two different tasks.
_FIXED = {
    "run.name": "it names the sweep",
    "run.folder": "the sweep's runs are there",
    "data.validation": "trials are compared by it",
    "data.retention": "trials are compared by it",
    "evaluation.sample_clips": "trials are compared by the same clips",
}

# Keys of the section ctc.
_NOT_OF_LABELS = {"head_learning_rate", "layerdrop", "language_model", "language_weight", "word_bonus"}


@dataclass(frozen=True)
class Trial:
    """A run of a sweep: ``settings`` are those in which it differs from the others."""

    number: int
    settings: JsonObject
    config: TrainConfig

    @property
    def name(self) -> str:
        """The name of the trial's run."""
        return self.config.run.name

    @property
    def run(self) -> RunFolder:
        """The folder of the trial's run."""
        from train.checkpoints.run_folder import RunFolder

        return RunFolder.of(self.config)

    @property
    def label(self) -> str:
        """Name and settings, for people."""
        return f"trial {self.name} ({described(self.settings)})"

    @property
    def data_key(self) -> str:
        """Trials with the same key are trained on the same utterances, if not in the same order."""
        config = self.config
        read: list[object] = [config.base, config.head, config.language, config.task]
        labels = config.ctc.model_dump(mode="json", exclude=_NOT_OF_LABELS)
        read += [labels, config.data.model_dump(mode="json")]
        return json.dumps(read, sort_keys=True)


def described(settings: Mapping[str, object]) -> str:
    """Return settings as a person would type them."""
    return " ".join(f"{key}={_text(value)}" for key, value in settings.items())


def make_trials(sweep: SweepConfig, file: Path | None, words: Sequence[str] = ()) -> list[Trial]:
    """Return the trials of a sweep over the configuration that ``file`` and ``key=value`` words make.

    Raises UserError naming every key that is not one, every value that a key does not take, and every trial whose
    settings do not go together.
    """
    base = resolve(TrainConfig, file, words).value
    sweep = under_current_names(sweep, TrainConfig)
    if base.data.validation is None:
        raise UserError("a sweep compares word error rates, and data.validation is not set")
    mistakes = [f"sweep: {key}: cannot be varied, {why}" for key, why in _FIXED.items() if _touches(sweep, key)]
    for key, values in sweep.space.items():
        mistakes += _wrong_values(key, values, file, words)
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))
    from train.checkpoints.run_folder import (
        RunFolder,  # and with it torch and Ray: the mistakes above are told without them
    )

    folder = storage.join(RunFolder.of(base).uri, TRIALS)
    trials = []
    for number, settings in enumerate(draw(sweep, TrainConfig, base.seed)):
        own = [f"run.folder={json.dumps(folder)}", f'run.name="{number:03d}"']
        if base.evaluation.mode == "auto":
            own.append("evaluation.mode=sync")  # what is free beside one trial's workers is another's
        try:
            config = resolve(TrainConfig, file, [*words, *_words(settings), *own]).value
        except UserError as error:
            mistakes += [f"sweep: {described(settings)}: {line.removeprefix(_FROM)}" for line in _lines(error)]
            continue
        trials.append(Trial(number, settings, config))
    if mistakes:
        raise UserError("\n".join(mistakes))
    return trials


def _touches(sweep: SweepConfig, fixed: str) -> bool:
    return any(f"{key}.".startswith(f"{fixed}.") or fixed.startswith(f"{key}.") for key in sweep.space)


def _wrong_values(key: str, values: Values, file: Path | None, words: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with a key or a value of its own; what does not go together is for whole trials to tell."""
    given = values.choice or values.grid
    for value in (given if given is not None else values.bounds) or ():
        plain = int(value) if isinstance(value, float) and value.is_integer() else value
        try:
            resolve(TrainConfig, file, [*words, *_words({key: plain})])
        except UserError as error:
            own = [line.removeprefix(_FROM) for line in _lines(error) if line.startswith(_FROM)]
            yield from (f"sweep: {line}" for line in own if line.startswith((f"{key}:", f"{key}.", "unknown key")))


def _words(settings: Mapping[str, object]) -> list[str]:
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]


def _lines(error: UserError) -> list[str]:
    return error.message.splitlines()


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
