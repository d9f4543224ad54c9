"""CTC as a family: an encoder and a linear layer that spells what is heard, without translation and without prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError

from asr.audio.features import Context
from asr.errors import DataError, UserError, one_line
from asr.models.abilities import Refusal, Refusals
from asr.models.alignment import AlignmentRequest, LongAlignment, SegmentLimits, SoundWindow
from asr.models.backends import FastModel, SharedBase
from asr.models.capacity import NetworkSize
from asr.models.checkpoint import Checkpoint
from asr.models.ctc import label_checks
from asr.models.ctc.decoder import LANGUAGE_MODEL, how_it_decodes, write_language_model
from asr.models.ctc.processor import CtcProcessor, languages_of, load_processor
from asr.models.export_formats import FastEngineName, Quantization
from asr.models.family import CTC, SpeechModel
from asr.models.head import HeadFiles, HeadSettings
from asr.models.processor import Processor
from asr.models.regularisation import Regularisation
from asr.models.training import Finding, FrozenPart, LabelSample, NetworkLayers, TrainingLoss
from asr.transcript import DecodingRequest, Transcript, Word

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel

_NO_TRANSLATION = Refusal("is a CTC model and cannot translate", "use a Whisper model")
_NO_PROMPT = Refusal("is a CTC model and reads no prompt", "leave it out, or give keywords")
_NO_TEMPERATURE = Refusal("is a CTC model and draws no words", "leave temperature out, or 0")
_NO_DETECTION = Refusal("is a CTC model and detects no language", "name the language, or leave it out")
_REFUSED: Refusals = {
    "translation": _NO_TRANSLATION,
    "prompt": _NO_PROMPT,
    "temperature": _NO_TEMPERATURE,
    "language detection": _NO_DETECTION,
}


class CtcFamily:
    """CTC networks as ``asr.models.family.Family``. They are imported only where one is needed: that takes seconds."""

    name = CTC
    published: Mapping[str, NetworkSize] = {}
    fast_engine: FastEngineName = "onnx"
    shares_bases = False  # an adapter's head is its own, of another size than the next one's
    unquantized = ("lm_head", "ctc_head")  # small, and what the transcript is read from

    def published_files(self, name: str) -> HeadFiles:
        """Return none: nothing is published that is known by its name alone."""
        return ()

    def has_type(self, model_type: str) -> bool:
        """Return whether transformers, or this folder, has a network with a CTC head of this type."""
        from asr.models.ctc.positions import has_type

        return has_type(model_type)

    def load_processor(self, checkpoint: Checkpoint) -> CtcProcessor:
        """Load a checkpoint's vocabulary and features."""
        return load_processor(checkpoint)

    def load(
        self,
        checkpoint: Checkpoint,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        quantization: BitsAndBytesConfig | None = None,
    ) -> SpeechModel:
        """Load a checkpoint for inference; a new head is drawn, the same one each time."""
        from asr.models.ctc.network import load

        processor = load_processor(checkpoint)
        processor.decoder  # noqa: B018  # a damaged language model is told now, and not with the first clip
        try:
            network = load(checkpoint.folder, checkpoint.weights, device, dtype, quantization)
        except (OSError, ValueError, ArithmeticError, RuntimeError, TypeError, SafetensorError) as error:
            what = f"checkpoint '{checkpoint.name}' cannot be loaded as a CTC model: {one_line(error)}"
            raise UserError(what, str(checkpoint.folder)) from error
        return SpeechModel(
            checkpoint.name,
            checkpoint.digest,
            network,
            processor,
            language=checkpoint.language,
            short_context=checkpoint.short_context or processor.has_own_context,
        )

    def size(self, folder: Path) -> NetworkSize | None:
        """Return None: there are many networks, and no formula."""
        return None

    def untrained(self, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
        """Return a network of the folder's config with random weights."""
        from asr.models.ctc.network import untrained

        try:
            return untrained(folder, dtype)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: no CTC network: {one_line(error)}", "is its config.json whole?") from error

    def languages(self, model: SpeechModel) -> frozenset[str]:
        """Return the language that the model was trained for; any, where that is not known."""
        return languages_of(model.language)

    def known_languages(self, folder: Path, language: str | None) -> frozenset[str]:
        """Return the language of the card."""
        return languages_of(language)

    def refusals(self, languages: frozenset[str]) -> Refusals:
        """Return what only a decoder can do."""
        return _REFUSED

    def transcribe(
        self,
        model: SpeechModel,
        requests: Sequence[DecodingRequest],
        context: Context,
        max_batch_clips: int | None = None,
        fallback: bool = False,
        adapters: Sequence[str] = (),
    ) -> list[Transcript]:
        """Spell clips; there is nothing to fall back to."""
        from asr.models.ctc.batch_decode import transcribe_batch
        from asr.models.ctc.torch_backend import TorchEmitter

        network = TorchEmitter(model.network)
        return transcribe_batch(network, _processor(model), requests, context, model.language, max_batch_clips)

    def align(self, model: SpeechModel, requests: Sequence[AlignmentRequest]) -> list[tuple[Word, ...] | DataError]:
        """Return the words' times on the most probable path through each clip's emissions."""
        from asr.models.ctc.given_text import align_clips

        return align_clips(model, _processor(model), requests)

    def align_long(
        self, model: SpeechModel, windows: Iterable[SoundWindow], text: str, limits: SegmentLimits
    ) -> LongAlignment:
        """Cut a recording into segments of what is surely spoken of a text, which need not fit it everywhere."""
        from asr.models.ctc.given_text import align_recording

        return align_recording(model, _processor(model), windows, text, limits)

    def loss(self, network: PreTrainedModel) -> TrainingLoss:
        """Return CTC's loss: the clips' sum, divided by the symbols of the whole step on all workers."""
        from asr.models.ctc.loss import CtcLoss

        return CtcLoss(int(network.config.pad_token_id))

    def regularise(self, network: PreTrainedModel, wanted: Regularisation) -> None:
        """Leave out layers, and hide time and features inside networks of raw waveforms."""
        from asr.models.ctc.regularisation import regularise

        regularise(network, wanted)

    def twin(self, network: PreTrainedModel) -> PreTrainedModel:
        """Return another of the config, ready to decode."""
        from asr.models.ctc.network import twin

        return twin(network)

    def freeze(self, network: PreTrainedModel, part: FrozenPart) -> None:
        """Train all weights, all but the convolutions that begin it, or the head alone."""
        from asr.models.ctc.language_adapters import adapter_parameters
        from asr.models.ctc.layers import feature_encoder, freeze_feature_encoder, freeze_unused, head_name

        network.requires_grad_(True)
        if part == "all_but_language":
            own = adapter_parameters(network)
            if not own:
                what = f"strategy=language_adapter: {type(network).__name__} has no adapters of languages"
                raise UserError(what, "use strategy=lora, or a checkpoint of MMS")
            network.requires_grad_(False)
            for weight in own.values():
                weight.requires_grad_(True)
            return
        if part == "encoder":
            network.requires_grad_(False)
            network.get_submodule(head_name(network)).requires_grad_(True)
        if part == "feature_encoder":
            if feature_encoder(network) is None:
                what = f"strategy=frozen_feature_encoder: {type(network).__name__} has no convolutions on waveforms"
                raise UserError(what, "use strategy=full, frozen_encoder or lora")
            freeze_feature_encoder(network)
        freeze_unused(network)

    def layers(self, network: PreTrainedModel) -> NetworkLayers:
        """Return the linear layers of the encoder's blocks, and the head."""
        from asr.models.ctc.layers import head_name, lora_targets

        return NetworkLayers(tuple(lora_targets(network)), (head_name(network),))

    def new_head(
        self, base: Checkpoint, settings: HeadSettings, language: str | None, texts: Callable[[], Iterable[str]]
    ) -> HeadFiles:
        """Return a head for the transcripts' characters or subwords; none where the checkpoint has one to keep."""
        from asr.models.ctc.new_head import new_head

        return new_head(base, settings, language, texts)

    def write_language_model(
        self, folder: Path, processor: Processor, settings: HeadSettings, texts: Callable[[], Iterable[str]] | None
    ) -> None:
        """Write n-grams of the transcripts' words and symbols, if settings ask for them."""
        for name in LANGUAGE_MODEL:  # the base's, which was for other transcripts
            (folder / name).unlink(missing_ok=True)
        if settings.has_language_model(texts is not None):
            vocabulary = cast(CtcProcessor, processor).vocabulary
            write_language_model(folder, vocabulary, texts() if texts is not None else (), settings)

    def without_language_model(self, model: SpeechModel) -> SpeechModel:
        """Return the model with greedy decoding, its own where it has no n-grams."""
        return replace(model, processor=replace(_processor(model), is_greedy=True))

    def settle(self, folder: Path) -> None:
        """Change nothing: networks are saved under transformers' own names."""

    def with_settings(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return the model as it is: its processor is the folder's."""
        return model

    def with_weights(self, model: SpeechModel, folder: Path) -> SpeechModel:
        """Return the model with other weights."""
        from asr.models.ctc.network import load

        network = load(folder, folder, str(model.network.device), model.network.dtype)
        return replace(model, network=network)

    def check_start(self, sample: LabelSample) -> Finding:
        """Check that the vocabulary writes what the transcripts hold, in their letter case."""
        return label_checks.vocabulary(sample)

    def check_order(self, sample: LabelSample) -> Finding:
        """Check that labels spell the transcripts."""
        return label_checks.spelling(sample)

    def check_length(self, sample: LabelSample) -> Finding:
        """Check that clips are long enough for their labels."""
        return label_checks.length(sample)

    def check_generation(self, sample: LabelSample) -> Finding:
        """Check nothing, but tell by what the run's artifact will decode."""
        return how_it_decodes(sample.head_settings, sample.has_known_transcripts), ""

    def shared_base(self, model: SpeechModel) -> SharedBase:
        """Raise UserError: adapters of CTC models are merged."""
        raise UserError(f"'{model.name}' is a CTC model, whose adapters share no base", "set share_bases=false")

    def write_fast(self, model: SpeechModel, folder: Path, quantization: Quantization) -> None:
        """Write for ONNX Runtime."""
        from asr.models.ctc.onnx_export import write

        write(model, _processor(model), folder, quantization)

    def runs_fast(self, device: str) -> bool:
        """Return whether it can be exported for ONNX Runtime, which is ahead of torch on a CPU."""
        from asr.models.ctc.onnx_export import can_export

        return device == "cpu" and can_export()

    def load_fast(
        self, name: str, device: str = "cpu", threads: int = 0, quantization: Quantization | None = None
    ) -> FastModel:
        """Load a model that was written for ONNX Runtime, or write it first."""
        from asr.models.ctc.onnx_backend import OnnxModel

        return OnnxModel.load(name, device, threads, quantization)

    def is_mixable(self, folder: Path) -> bool:
        """Return False, as no base is shared."""
        return False


def _processor(model: SpeechModel) -> CtcProcessor:
    return cast(CtcProcessor, model.processor)


FAMILY = CtcFamily()
