"""Makes the model that a run starts from: the base as it is, or with a new head for the training transcripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from asr.config import Section
from asr.data.sources import is_stream, rows
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.models.checkpoint import Checkpoint, find_checkpoint
from asr.models.family import CTC, Family, family_named, family_of
from asr.models.head import InitialModel, with_head
from asr.utterance import Quarantined, Utterance
from train.config import TrainConfig
from train.data.config import DataConfig
from train.trainer.strategy import has_adapter

_OF_SOME_NETWORKS = ("frozen_feature_encoder", "language_adapter")
_TIMES = ("packing.timestamp_share", "packing.previous_text_share")


def initial_model(config: TrainConfig) -> InitialModel:
    """Return the model that a run starts from; the training transcripts are read where it needs a head for them.

    Raises UserError where the base takes no such head, or a key is not for models of its family.
    """
    base = find_checkpoint(config.base)
    family = family_named(config.head) if config.head else family_of(base.folder)
    _require_keys(config, family)
    if config.ctc.language_model == "transcripts" and known_transcripts(config) is None:
        raise UserError("ctc.language_model=transcripts: a stream is not read twice", "use auto, none or an ARPA file")
    head = family.new_head(base, config.ctc, config.language, lambda: transcripts(config.data))
    _require_layers(config, with_head(base, head) if head else base)
    return InitialModel(config.base, head)


def known_transcripts(config: TrainConfig) -> Callable[[], Iterator[str]] | None:
    """Return the training transcripts, to be read as often as they are needed; None where they are a stream."""
    return None if any(map(is_stream, config.data.sources)) else lambda: transcripts(config.data)


def transcripts(data: DataConfig) -> Iterator[str]:
    """Yield the transcripts of the training sources.

    Raises UserError for a stream, which is not read twice, and where no row can be used, with the reason of the first.
    """
    first: Quarantined | None = None
    is_empty = True
    for source in data.sources:
        if is_stream(source):
            raise UserError(
                f"data.train={source.source} is a stream, and the vocabulary needs all of its transcripts",
                "prepare a manifest of it, or start from a checkpoint that has a vocabulary",
            )
        for row in rows(source, cache_root()):
            if isinstance(row, Utterance):
                is_empty = False
                yield row.text
            else:
                first = first or row
    if is_empty and first is not None:
        raise UserError(f"data.train: no row can be used, the first: {first.id}: {first.reason}: {first.detail}")


def _require_keys(config: TrainConfig, family: Family) -> None:
    if family.name == CTC:
        whose = "a CTC model, whose labels are its transcript alone"
        given = [key for key in _changed("packing", config.packing) if key in _TIMES]
    else:
        whose = f"{config.base}, which has no CTC head: head=ctc puts one on its encoder"
        given = _changed("ctc", config.ctc)
    for key in given:
        raise UserError(f"{key} is not for {whose}", f"leave {key} out")


def _require_layers(config: TrainConfig, checkpoint: Checkpoint) -> None:
    """Raise UserError where the network lacks what is to be adapted or frozen: before any worker finds out.

    Most strategies take any network, and what they train is not looked for.
    """
    if has_adapter(config.strategy):
        if config.lora.target_modules is None:
            return
    elif config.strategy not in _OF_SOME_NETWORKS:
        return
    import torch

    from train.trainer.adapter import adapt

    with torch.device("meta"):  # weights with a size and no place
        adapt(family_of(checkpoint.folder).untrained(checkpoint.folder, torch.float32), config.strategy, config.lora)


def _changed(name: str, section: Section) -> list[str]:
    """Return the keys of a section that are not what they are by default."""
    usual = type(section)()
    return [f"{name}.{key}" for key in type(section).model_fields if getattr(section, key) != getattr(usual, key)]
