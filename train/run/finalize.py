"""Makes an artifact of the best or the last weights of a run."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import ray.train

from asr.models.artifact import BaseModel, Card, complete
from asr.models.checkpoint import Checkpoint, hub_id
from asr.models.family import family_of
from asr.models.head import InitialModel
from asr.models.lineage import keep_parent, lineage
from asr.models.model_card import CURVE
from asr.parsed import JsonObject
from train.callbacks.checkpoint_report import STATE
from train.capacity.cost import spent
from train.config import TrainConfig
from train.evaluation.schedule import failed_steps, for_card
from train.run.initial import known_transcripts
from train.tracking.curve import draw
from train.tracking.history import evaluations, failures
from train.trainer.strategy import has_adapter

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
_FULL_FILES = ("model.safetensors", "config.json")
_VERSIONED = ("whisperfleet", "torch", "transformers", "peft", "ray", "av")


def hand_over(
    draft: Path,
    config: TrainConfig,
    initial: InitialModel,
    data: JsonObject,
    last: ray.train.Checkpoint,
    best: ray.train.Checkpoint | None = None,
    history: Path | None = None,
) -> Card:
    """Make the empty folder ``draft`` an artifact: a run's best or last weights, and all that decoding needs.

    ``data`` is the card's section on the training data. ``history`` is the run's history file: the card lists its
    evaluations, the README shows its curve.
    """
    base = initial.checkpoint()
    family = family_of(base.folder)
    totals = state(last)
    step = int(state(best)["step"]) if best is not None else int(totals["step"])
    with (best or last).as_directory() as source:
        for name in _ADAPTER_FILES if has_adapter(config.strategy) else _FULL_FILES:
            shutil.copyfile(Path(source) / name, draft / name)
        if has_adapter(config.strategy):
            _amend(draft / "adapter_config.json", base_model_name_or_path=hub_id(config.base))
            keep_parent(base, draft)
        else:
            family.settle(draft)
        processor = family.load_processor(base)
        processor.save(draft, config.language, config.task)
        family.write_language_model(draft, processor, config.ctc, known_transcripts(config))
    card = _card(base, config, data, totals)
    if history is None:
        return complete(draft, card)
    scored = evaluations(history)
    draw(history, draft / CURVE, step if best is not None else None)
    account, table = for_card(scored, step) if scored else ({}, [])
    if config.data.validation is not None:
        every, last_step = config.evaluation.every_steps or config.run.checkpoint_every_steps, int(totals["step"])
        failed = failed_steps(failures(history), scored, [*range(every, last_step, every), last_step])
        account |= {"failed_evaluations": failed} if failed else {}
    training = {**card.training, "step": step, "last_step": totals["step"], **account}
    return complete(draft, card.model_copy(update={"training": training, "evaluations": table}))


def state(checkpoint: ray.train.Checkpoint) -> JsonObject:
    """Return the run's counts and scores at a checkpoint."""
    with checkpoint.filesystem.open_input_stream(f"{checkpoint.path}/{STATE}") as file:
        return dict(json.loads(file.read()))


def _amend(path: Path, **changes: object) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes, indent=2), encoding="utf-8")


def _card(base: Checkpoint, config: TrainConfig, data: JsonObject, totals: JsonObject) -> Card:
    return Card(
        weights="adapter" if has_adapter(config.strategy) else "full",
        base=BaseModel(name=config.base, digest=base.digest),
        lineage=lineage(base),
        family=family_of(base.folder).name,
        language=config.language,
        task=config.task,
        # With every utterance padded to 30 s, nothing was learnt about shorter contexts.
        short_context=config.batching.full_window_share < 1.0,
        normaliser="normalised",
        data=dict(data),
        config=config.model_dump(mode="json"),
        training={
            **{name: totals[name] for name in ("step", "seconds", "audio_s", "wait_s")},
            "cost": spent(config, totals).summary(),
        },
        versions={name: metadata.version(name) for name in _VERSIONED},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
