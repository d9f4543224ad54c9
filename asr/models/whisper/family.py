"""Whisper as a family: encoder and decoder, windows of 30 s, text with punctuation, translation, times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.audio.features import Context
from asr.errors import DataError, UserError
from asr.models.abilities import Refusal, Refusals
from asr.models.alignment import AlignmentRequest, LongAlignment, SegmentLimits, SoundWindow
from asr.models.backends import FastModel, SharedBase
from asr.models.checkpoint import Checkpoint
from asr.models.export_formats import FastEngineName, Quantization
from asr.models.family import WHISPER, SpeechModel
from asr.models.head import HeadFiles, HeadSettings
from asr.models.processor import Processor
from asr.models.regularisation import Regularisation
from asr.models.training import Finding, FrozenPart, LabelSample, NetworkLayers, TrainingLoss
from asr.models.whisper import label_checks
from asr.models.whisper.processor import WhisperProcessor, load_processor
from asr.models.whisper.shapes import SIZES, NetworkShape, read_shape
from asr.models.whisper.tokens import is_multilingual, read_languages
from asr.transcript import DecodingRequest, Transcript, Word

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel

_ONLY_ENGLISH = Refusal("knows English only and cannot translate", "use a multilingual model")
# As OpenAI has it: of its models whisper-1 takes no `keywords`, and its prompt is the place for a list of them.
_NO_KEYWORDS = Refusal("is a Whisper model and takes no keywords", "write the words into the prompt")


class WhisperFamily:
    """Whisper as ``asr.models.family.Family``. Networks are imported only where one is needed: that takes seconds."""

    name = WHISPER
    published = SIZES
    fast_engine: FastEngineName = "ctranslate2"
    shares_bases = True
    unquantized = ("proj_out",)  # the tied embeddings under another name

    def published_files(self, name: str) -> HeadFiles:
        """Return config.json and preprocessor_config.json of a size that was published."""
        from transformers import WhisperFeatureExtractor

        shape = SIZES[name]
        config = {"model_type": WHISPER, **shape.config}
        extractor = WhisperFeatureExtractor(feature_size=shape.mels).to_json_string()
        return (("config.json", json.dumps(config).encode()), ("preprocessor_config.json", extractor.encode()))

    def has_type(self, model_type: str) -> bool:
        """Return whether it is Whisper's."""
        return model_type == WHISPER

    def load_processor(self, checkpoint: Checkpoint) -> WhisperProcessor:
        """Load a checkpoint's tokenizer and log-mel features."""
        return load_processor(checkpoint)

    def load(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        quantization: BitsAndBytesConfig | None = None,
    ) -> SpeechModel:
        """Load a checkpoint for inference."""
        from asr.models.whisper.loading import load_checkpoint

        return load_checkpoint(checkpoint, device, dtype, quantization)

    def size(self, folder: Path) -> NetworkShape | None:
        """Return the network's shape, from which its memory is reckoned; None where the config does not tell it."""
        return read_shape(folder / "config.json")

    def untrained(self, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
        """Return a network of the folder's config with random weights."""
        from asr.models.whisper.loading import untrained

        return untrained(folder, dtype)

    def languages(self, model: SpeechModel) -> frozenset[str]:
        """Return the codes of the languages that a model has tokens for."""
        if not is_multilingual(model.tokenizer):
            return frozenset({"en"})
        known: dict[str, int] = model.network.generation_config.lang_to_id
        return frozenset(token.strip("<|>") for token in known)

    def known_languages(self, folder: Path, language: str | None) -> frozenset[str] | None:
        """Return the codes in the folder's generation config, which checkpoints and artifacts have."""
        return read_languages(folder)

    def refusals(self, languages: frozenset[str]) -> Refusals:
        """Return that keywords belong into the prompt, and that English-only checkpoints cannot translate."""
        refused: Refusals = {"keywords": _NO_KEYWORDS}
        return {**refused, "translation": _ONLY_ENGLISH} if languages == {"en"} else refused

    def transcribe(
        self,
        model: SpeechModel,
        requests: Sequence[DecodingRequest],
        context: Context,
        max_batch_clips: int | None = None,
        fallback: bool = False,
        adapters: Sequence[str] = (),
    ) -> list[Transcript]:
        """Decode clips with torch, through Whisper's own generation."""
        from asr.models.whisper.torch_backend import decode

        return decode(model, requests, context, max_batch_clips, fallback, adapters)

    def align(self, model: SpeechModel, requests: Sequence[AlignmentRequest]) -> list[tuple[Word, ...] | DataError]:
        """Return the words' times by the cross attention, as those of decoded words."""
        from asr.models.whisper.given_text import align_clips

        return align_clips(model, requests)

    def align_long(
        self, model: SpeechModel, windows: Iterable[SoundWindow], text: str, limits: SegmentLimits
    ) -> LongAlignment:
        """Raise DataError: cross attention is read in one window."""
        detail = f"'{model.name}' is a Whisper model, which aligns clips of at most 30 s: use a CTC model"
        raise DataError("too_long", detail)

    def loss(self, network: PreTrainedModel) -> TrainingLoss:
        """Return the cross entropy of the tokens: their sum, divided by the tokens of the whole step on all workers."""
        from asr.models.whisper.loss import TokenLoss

        return TokenLoss()

    def regularise(self, network: PreTrainedModel, wanted: Regularisation) -> None:
        """Change nothing: features are masked before, and no layer is left out."""

    def twin(self, network: PreTrainedModel) -> PreTrainedModel:
        """Return another of the network's class."""
        return type(network)(network.config)

    def freeze(self, network: PreTrainedModel, part: FrozenPart) -> None:
        """Train all weights but the encoder's sinusoids, which OpenAI never trained, or but all of the encoder's."""
        if part == "all_but_language":
            raise UserError("strategy=language_adapter: Whisper has no adapters of languages", "use strategy=lora")
        network.requires_grad_(True)
        inner = network.model.encoder
        inner.embed_positions.requires_grad_(False)
        # Where nothing asks for a gradient, autograd keeps no activations: a frozen encoder costs a forward pass only.
        if part == "encoder":
            inner.requires_grad_(False)
        elif part == "feature_encoder":
            inner.conv1.requires_grad_(False)
            inner.conv2.requires_grad_(False)

    def layers(self, network: PreTrainedModel) -> NetworkLayers:
        """Return the linear layers of encoder and decoder."""
        return NetworkLayers(("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))

    def new_head(
        self, base: Checkpoint, settings: HeadSettings, language: str | None, texts: Callable[[], Iterable[str]]
    ) -> HeadFiles:
        """Return none: a checkpoint's tokens spell any text."""
        return ()

    def settle(self, folder: Path) -> None:
        """Name transformers' class in place of our subclass: the weights are the same, and others load them."""
        path = folder / "config.json"
        settings = json.loads(path.read_text(encoding="utf-8")) | {"architectures": ["WhisperForConditionalGeneration"]}
        path.write_text(json.dumps(settings, indent=2), encoding="utf-8")

    def write_language_model(
        self, folder: Path, processor: Processor, settings: HeadSettings, texts: Callable[[], Iterable[str]] | None
    ) -> None:
        """Write nothing: Whisper's decoder is one."""

    def without_language_model(self, model: SpeechModel) -> SpeechModel:
        """Raise UserError: its language model is its decoder."""
        raise UserError(f"{model.name} is no CTC model: it has no n-grams to do without", "leave --greedy out")

    def with_settings(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return the model with the generation config in a folder, which has the language it was trained for."""
        from transformers import GenerationConfig

        model.network.generation_config = GenerationConfig.from_pretrained(folder)
        return model

    def with_weights(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return the model with other weights; the generation config stays."""
        network = type(model.network).from_pretrained(folder, dtype=model.network.dtype, use_safetensors=True)
        network.generation_config = model.network.generation_config
        return replace(model, network=network.eval().to(model.network.device))

    def check_start(self, sample: LabelSample) -> Finding:
        """Check that each label has one start-of-transcript, given to the decoder and never asked of it."""
        return label_checks.start(sample)

    def check_order(self, sample: LabelSample) -> Finding:
        """Check that language, task, flag, text and end stand where Whisper expects them."""
        return label_checks.order(sample)

    def check_length(self, sample: LabelSample) -> Finding:
        """Check that the decoder has positions for the labels."""
        return label_checks.length(sample)

    def check_generation(self, sample: LabelSample) -> Finding:
        """Check that the generation config, which the artifact inherits, decodes as the labels are written."""
        return label_checks.generation(sample)

    def shared_base(self, model: SpeechModel) -> SharedBase:
        """Return a base whose layers take another adapter for each row."""
        from asr.models.whisper import multi_lora

        return multi_lora.MultiLoraBase(model)

    def write_fast(self, model: SpeechModel, folder: Path, quantization: Quantization) -> None:
        """Write for CTranslate2: what its TransformersConverter does with a folder, which would have to be written."""
        try:
            from ctranslate2.converters.transformers import WhisperLoader
        except ImportError:
            raise UserError("CTranslate2 is not installed", "pip install ctranslate2") from None
        import torch

        with torch.no_grad():
            spec = WhisperLoader()(model.network, model.tokenizer)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(folder))

    def runs_fast(self, device: str) -> bool:
        """Return whether CTranslate2 runs on a device."""
        from asr.models.whisper.ct2_backend import loads

        return loads(device)

    def load_fast(
        self, name: str, device: str = "cpu", threads: int = 0, quantization: Quantization | None = None
    ) -> FastModel:
        """Load a model that was written for CTranslate2, or write it first."""
        from asr.models.whisper.ct2_backend import CTranslateModel

        return CTranslateModel.load(name, device, threads, quantization)

    def is_mixable(self, folder: Path) -> bool:
        """Return whether PEFT adds nothing but two small matrices to layers that take a row for each row."""
        from asr.models.whisper.multi_lora import is_mixable

        return is_mixable(folder)


FAMILY = WhisperFamily()
