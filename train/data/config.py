"""The section ``data`` of a training run's configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from asr.config import Section
from asr.data.sources import SourceConfig, is_stream

LongClips = Literal["quarantine", "split"]


class DataConfig(Section):
    """Sources of speech, and the treatment of rows that cannot be used."""

    train: SourceConfig | list[SourceConfig]
    """Training data: a manifest, a folder, an address, ``hf:owner/name``, ``prompts:it``; or a list of several."""
    validation: SourceConfig | None = None
    """Validation data: the word error rate on it steers training."""
    retention: SourceConfig | None = None
    """Another language or domain, which the model should still know afterwards; scored, never trained on."""
    temperature: float = Field(1.0, ge=1.0)
    """Temperature of mixing several sources without weights: each gets size ** (1 / temperature). 1 takes all as is."""
    max_quarantined_share: float = Field(0.05, ge=0.0, le=1.0)
    """The run fails once more than this share of the utterances met so far could not be used."""
    max_damaged_share: float = Field(0.0, ge=0.0, le=1.0)
    """Clips with a larger share of undecodable audio are quarantined as corrupt; in others it becomes silence."""
    long_clips: LongClips = "quarantine"
    """Treatment of clips over 30 s: quarantined, or split at the times of their segments."""
    window_clips: int = Field(1000, ge=1)
    """Streams are planned so many utterances at a time: more pads less and shuffles better, and takes more memory."""

    @model_validator(mode="after")
    def _all_weights_or_none(self) -> DataConfig:
        weighted = [source.weight is not None for source in self.sources]
        if not self.sources:
            raise ValueError("train: no source to train on")
        if any(weighted) and not all(weighted):
            raise ValueError("train: either every source has a weight, or none")
        if len(weighted) > 1 and any(map(is_stream, self.sources)) and not all(weighted):
            raise ValueError("train: the size of a stream is unknown: beside other sources each needs a weight")
        return self

    @property
    def sources(self) -> list[SourceConfig]:
        """The sources of ``train``, one or several."""
        return self.train if isinstance(self.train, list) else [self.train]

    @property
    def read(self) -> list[SourceConfig]:
        """All sources, those of ``train`` and what a run is scored on."""
        return [*self.sources, *(one for one in (self.validation, self.retention) if one is not None)]
