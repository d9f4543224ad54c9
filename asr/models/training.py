"""Training's questions to a family of models: its loss, what is frozen and adapted, new heads, checks of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from asr.errors import UserError
from asr.models.checkpoint import Checkpoint
from asr.models.head import HeadFiles, HeadSettings
from asr.models.processor import Processor
from asr.models.regularisation import Regularisation
from asr.transcript import Task
from asr.utterance import Quarantined, Utterance

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

FrozenPart = Literal["nothing", "feature_encoder", "encoder", "all_but_language"]
"""The part of a network that keeps its weights in a full fine-tune."""


class TrainingLoss(Protocol):
    """The loss of a micro-batch, weighted so that every token of the whole step weighs the same.

    ``outputs`` are the network's, with their ``logits``. ``num_items_in_batch`` is the number of tokens of the step, on
    all workers; None: those of this micro-batch.
    """

    def __call__(
        self, outputs: NetworkOutput, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor: ...

    def measures(self) -> dict[str, float]:
        """Return what was measured since the last call, by name: what tells early whether training succeeds."""

    def fault(self, steps: int) -> UserError | None:
        """Return why the run is in vain, as far as the last measures tell, ``steps`` after its warm-up."""


class NetworkOutput(Protocol):
    """A network's output as transformers returns it."""

    @property
    def logits(self) -> torch.Tensor: ...


@dataclass(frozen=True)
class NetworkLayers:
    """Names of a network's layers: ``linears`` get adapters, those of its ``head`` are trained whole beside them."""

    linears: tuple[str, ...]
    head: tuple[str, ...] = ()


Finding = tuple[str, str]
"""A finding of a check, and the hint what to do: an empty string if nothing is wrong."""


class LabelSample(Protocol):
    """Label tokens of some training rows, and what is around them, for ``Family.check_start`` and the like.

    ``labels`` are rows with their tokens, ``unlabelled`` the rows that have none; ``utterances`` counts all training
    rows, of which ``max_quarantined_share`` may be unusable. ``scored`` are rows that are not trained on, by their key,
    ``has_new_vocabulary`` says that the tokens were made for these very transcripts, ``has_known_transcripts`` that
    these are no stream. ``head_settings`` are those of a CTC head and its decoding.
    ``batch`` is a small one as the network gets it.
    """

    @property
    def base(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def task(self) -> Task: ...
    @property
    def processor(self) -> Processor: ...
    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...
    @property
    def scored(self) -> Mapping[str, Sequence[Utterance]]: ...
    @property
    def generation(self) -> GenerationConfig: ...
    @property
    def has_new_vocabulary(self) -> bool: ...
    @property
    def has_known_transcripts(self) -> bool: ...
    @property
    def head_settings(self) -> HeadSettings: ...
    @property
    def labels(self) -> list[tuple[Utterance, list[int]]]: ...
    @property
    def unlabelled(self) -> list[Quarantined]: ...
    @property
    def utterances(self) -> int: ...
    @property
    def max_quarantined_share(self) -> float: ...
    @property
    def batch(self) -> dict[str, torch.Tensor]: ...

    def language(self, utterance: Utterance) -> str | None:
        """Return the language that a row is trained under."""


class TrainedFamily(Protocol):
    """The part of ``asr.models.family.Family`` that training asks."""

    def loss(self, network: PreTrainedModel) -> TrainingLoss:
        """Return the loss that a network is trained with."""

    def regularise(self, network: PreTrainedModel, wanted: Regularisation) -> None:
        """Have a network leave out what is wanted of each training step, before its weights are chosen.

        Raises UserError where it cannot.
        """

    def twin(self, network: PreTrainedModel) -> PreTrainedModel:
        """Return a network of the same class and config, with weights as they are drawn."""

    def freeze(self, network: PreTrainedModel, part: FrozenPart) -> None:
        """Make all weights trainable but those that never are, and those of ``part``.

        Raises UserError where the network has no such part.
        """

    def layers(self, network: PreTrainedModel) -> NetworkLayers:
        """Return the names of the layers that training tells apart."""

    def new_head(
        self, base: Checkpoint, settings: HeadSettings, language: str | None, texts: Callable[[], Iterable[str]]
    ) -> HeadFiles:
        """Return the files of a new head for a checkpoint, made for transcripts; none where it keeps its own.

        ``texts`` yields all transcripts of the training data. Raises UserError where the checkpoint takes no such head.
        """

    def published_files(self, name: str) -> HeadFiles:
        """Return config and feature extractor of a checkpoint among ``Family.published``."""

    def write_language_model(
        self, folder: Path, processor: Processor, settings: HeadSettings, texts: Callable[[], Iterable[str]] | None
    ) -> None:
        """Write a language model of the training transcripts into an artifact, where the family decodes by one.

        ``texts`` is None where they are not known. Raises UserError for a file that is no language model.
        """

    def settle(self, folder: Path) -> None:
        """Amend what ``save_pretrained`` has written into a folder, so that plain transformers loads it."""

    def check_start(self, sample: LabelSample) -> Finding:
        """Check how labels start. Raises UserError, as the other checks do, where training would be in vain."""

    def check_order(self, sample: LabelSample) -> Finding:
        """Check the order of a label's tokens, and the text that they spell."""

    def check_length(self, sample: LabelSample) -> Finding:
        """Check the length of labels."""

    def check_generation(self, sample: LabelSample) -> Finding:
        """Check the generation config against the labels."""
