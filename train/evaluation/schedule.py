"""Evaluation schedule of a run in training: the samples, the steps, the mode, and when to stop early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from asr.audio.features import Context
from asr.config import Renamed, Section
from asr.errors import UserError
from asr.parsed import JsonObject
from asr.utterance import Utterance
from cluster.resources import DATA_TASK_CPUS, WAITING_ACTORS
from cluster.workers import Workers
from train.events import Failed, Scored

Mode = Literal["auto", "async", "sync"]


class EvaluationConfig(Section):
    """Schedule of scoring a run on samples of ``data.validation`` and ``data.retention`` while it trains."""

    renamed: ClassVar = {"where": Renamed("mode", {"beside": "async", "inline": "sync"})}

    every_steps: int | None = Field(None, ge=1)
    """Steps between evaluations, a multiple of run.checkpoint_every_steps; default: at each checkpoint. The last step
    is always scored."""
    sample_clips: int = Field(64, ge=1)
    """Clips drawn from each of the two, the same ones each time."""
    mode: Mode = "auto"
    """sync: by the workers, between two steps. async: by a Ray task of its own, with the resources of one worker, while
    they train. auto: async where the cluster has that to spare."""
    patience: int | None = Field(None, ge=1)
    """The run stops after so many evaluations without a better word error rate; default: never."""
    batch_clips: int = Field(16, ge=1)
    """Clips that are decoded together."""


@dataclass(frozen=True)
class Scoring:
    """Data and settings that a run is scored with: made by the driver, pickled to the process that scores.

    ``best`` is the address at which the best weights are kept; ``context`` the one that the network is trained for.
    """

    config: EvaluationConfig
    validation: tuple[Utterance, ...]
    retention: tuple[Utterance, ...]
    every_steps: int
    is_async: bool
    context: Context
    language: str | None
    best: str

    def due(self, step: int, max_steps: int) -> bool:
        """Return whether the checkpoint of this step is scored."""
        return step % self.every_steps == 0 or step >= max_steps


def sample(utterances: Sequence[Utterance], clips: int, seed: int) -> tuple[Utterance, ...]:
    """Return so many of the utterances, drawn by ``seed`` whatever their order, longest first."""
    by_id = sorted(utterances, key=lambda utterance: utterance.id)
    drawn = np.random.default_rng([seed, len(by_id)]).permutation(len(by_id))[:clips]
    # Longest first, so that workers who take every n-th one have like work.
    return tuple(sorted((by_id[i] for i in drawn), key=lambda one: one.duration_s or 0.0, reverse=True))


def curve(scored: Sequence[Scored]) -> list[Scored]:
    """Return the evaluations on the validation sample, by step."""
    return sorted((one for one in scored if one.corpus == "validation"), key=lambda one: one.step)


def exhausted(scored: Sequence[Scored], patience: int | None) -> bool:
    """Return whether so many evaluations have come since the best one."""
    rates = [one.wer for one in curve(scored)]
    return patience is not None and bool(rates) and len(rates) - 1 - rates.index(min(rates)) >= patience


def retention_loss(scored: Sequence[Scored], step: int) -> dict[str, float] | None:
    """Return WER on the retention sample before (the base model), after (``step``) and what was lost, or None."""
    rates = {one.step: one.wer for one in scored if one.corpus == "retention"}
    if 0 not in rates or step not in rates:
        return None
    return {"wer_before": rates[0], "wer_after": rates[step], "loss": rates[step] - rates[0]}


def failed_steps(failed: Sequence[Failed], scored: Sequence[Scored], due: Sequence[int]) -> list[JsonObject]:
    """Return what a card says of evaluations without a figure: of which step, and why, as far as anybody was told."""
    known = {one.step for one in curve(scored)}
    based = any(one.step == 0 for one in scored)  # the base may have been scored in a later attempt
    told: dict[int, str] = {}
    for one in failed:
        if one.step or not based:
            told.setdefault(one.step, one.error)
    told |= {step: "it ended without a word" for step in due if step not in known and step not in told}
    return [{"step": step, "error": error} for step, error in sorted(told.items())]


def for_card(scored: Sequence[Scored], step: int) -> tuple[JsonObject, list[JsonObject]]:
    """Return what a card says of a run's evaluations where its weights are those of ``step``.

    That is all of them in short, for its account of the training, and those of these weights (and the base model's)
    with all their figures, for its table.
    """
    ordered = sorted(scored, key=lambda one: (one.step, one.corpus))
    account: JsonObject = {
        "evaluations": [{"step": one.step, "corpus": one.corpus, "wer": one.summary["wer"]} for one in ordered]
    }
    if lost := retention_loss(scored, step):
        account["retention"] = lost
    padded = any(one.step == 0 and one.summary.get("context", "full") == "full" for one in ordered)
    labels = {0: f"base model, {'padded to 30 s' if padded else 'own length'}", step: f"step {step}"}
    table = [
        {"label": f"{one.corpus} sample, {labels[one.step]}", **one.summary} for one in ordered if one.step in labels
    ]
    return account, table


def choose_async(mode: Mode, workers: Workers, present: Mapping[str, float]) -> bool:
    """Return whether evaluations run beside the workers, in a cluster with so much of each resource.

    Raises UserError where that was asked for and there is no room: Ray would wait for it for ever.
    """
    cpus = workers.most * (workers.threads + workers.data_tasks_each * DATA_TASK_CPUS) + workers.threads
    gpus = (workers.most + 1) * workers.gpu
    if mode == "async" and (present.get("CPU", 0) < cpus or present.get("GPU", 0) < gpus):
        has = f"{present.get('CPU', 0):g} CPUs and {present.get('GPU', 0):g} GPUs"
        raise UserError(
            f"evaluation.mode=async needs {cpus:g} CPUs and {gpus:g} GPUs, the cluster has {has}",
            "use evaluation.mode=sync, or fewer workers",
        )
    if mode != "auto":
        return mode == "async"
    # A local cluster promises more CPUs than there are.
    return present.get("CPU", 0) >= cpus + WAITING_ACTORS and present.get("GPU", 0) >= gpus


def as_json(scored: Sequence[Scored]) -> list[JsonObject]:
    """Return evaluations as a checkpoint or a history keeps them."""
    return [{"step": one.step, "corpus": one.corpus, "summary": one.summary} for one in scored]


def from_json(rows: Sequence[JsonObject]) -> list[Scored]:
    """Read what ``as_json`` made."""
    return [Scored(row["step"], row["corpus"], dict(row["summary"])) for row in rows]
