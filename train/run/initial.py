"""Makes the model that a run starts from: the base as it is, or with a new head for the training transcripts."""

from __future__ import annotations

from collections.abc import Iterator

from asr.data.sources import is_stream, rows
from asr.errors import UserError
from asr.io.cache import cache_root
from asr.models.checkpoint import find_checkpoint
from asr.models.family import CTC, Family, family_named, family_of
from asr.models.head import InitialModel
from asr.utterance import Utterance
from train.config import TrainConfig
from train.data.config import DataConfig
from train.sampling.packing import Packing
from train.trainer.ctc import CtcSettings

_TIMES = ("timestamp_share", "previous_text_share")


def initial_model(config: TrainConfig) -> InitialModel:
    """Return the model that a run starts from; the training transcripts are read where it needs a head for them.

    Raises UserError where the base takes no such head, or a key is not for models of its family.
    """
    base = find_checkpoint(config.base)
    family = family_named(config.head) if config.head else family_of(base.folder)
    _require_keys(config, family)
    return InitialModel(
        config.base, family.new_head(base, config.ctc, config.language, lambda: transcripts(config.data))
    )


def transcripts(data: DataConfig) -> Iterator[str]:
    """Yield the transcripts of the training sources. Raises UserError for a stream, which is not read twice."""
    for source in data.sources:
        if is_stream(source):
            raise UserError(
                f"data.train={source.source} is a stream, and the vocabulary needs all of its transcripts",
                "prepare a manifest of it, or start from a checkpoint that has a vocabulary (ctc.vocabulary=checkpoint)",
            )
        yield from (row.text for row in rows(source, cache_root()) if isinstance(row, Utterance))


def _require_keys(config: TrainConfig, family: Family) -> None:
    usual: CtcSettings | Packing
    if family.name == CTC:
        section, usual, keys = "packing", Packing(), _TIMES
        given, whose = config.packing, "a CTC model, whose labels are its transcript alone"
    else:
        section, usual, keys = "ctc", CtcSettings(), tuple(CtcSettings.model_fields)
        given, whose = config.ctc, f"{config.base}, which has no CTC head: head=ctc puts one on its encoder"
    for key in keys:
        if getattr(given, key) != getattr(usual, key):
            raise UserError(f"{section}.{key} is not for {whose}", f"leave {section}.{key} out")
