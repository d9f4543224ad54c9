"""A CTC network in ONNX Runtime: quantised, and its encoder 1.6 times as fast as in torch on a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import torch

from asr.audio.features import Context
from asr.errors import UserError, one_line
from asr.io import storage
from asr.models.checkpoint import Checkpoint
from asr.models.ctc.batch_decode import transcribe_batch
from asr.models.ctc.features import ClipFeatures
from asr.models.ctc.onnx_export import FILE
from asr.models.ctc.processor import CtcProcessor, languages_of, load_processor
from asr.models.export import engine_of_export, exported, read_export
from asr.models.export_formats import Quantization
from asr.transcript import DecodingRequest, Transcript


@dataclass(frozen=True)
class OnnxModel:
    """A network for ``batch_decode``, with the facts about it.

    ``quantization`` is the type of its weights, ``language`` what it was fine-tuned for (None: any), ``short_context``
    whether clips need no padding to the window. ``nbytes`` is what its weights occupy; ``speech_s`` is no matter here:
    CTC hears windows of any length.
    """

    session: onnxruntime.InferenceSession
    processor: CtcProcessor
    quantization: str
    language: str | None = None
    short_context: bool = False
    speech_s: float | None = None
    nbytes: int = 0

    # Activations are quantised by the largest of a whole batch: in a batch, a clip would be heard by its neighbours'.
    max_batch_clips = 1

    @classmethod
    def load(
        cls, name: str, device: str = "cpu", threads: int = 0, quantization: Quantization | None = None
    ) -> OnnxModel:
        """Load an export, or whatever else ``name`` names after exporting it into the cache.

        ``threads`` 0 takes torch's number; without ``quantization``, int8. Raises UserError where the model is missing,
        damaged or no CTC model, or the device is no CPU, and NotExportable for a network that only torch runs.
        """
        if device != "cpu":
            raise UserError("the onnx engine runs on a CPU", "use engine=torch, or gpu=0")
        is_export = engine_of_export(name) == "onnx"
        folder = Path(storage.local_path(name)).expanduser() if is_export else exported(name, quantization or "int8")
        record = read_export(folder)
        if record is None:
            raise UserError(f"{folder}: an export without a record", "export the model again")
        processor = load_processor(Checkpoint(name, folder, record.digest))
        processor.decoder  # noqa: B018  # a damaged language model is told now, and not with the first clip
        card = record.card
        return cls(
            session=_open(folder / FILE, threads),
            processor=processor,
            quantization=record.quantization,
            language=card.language if card else None,
            short_context=card.short_context if card else processor.has_own_context,
            nbytes=sum(path.stat().st_size for path in folder.glob(f"{FILE}*")),
        )

    @property
    def features(self) -> ClipFeatures:
        """The features that turn waveforms into the network's input."""
        return self.processor.features

    @property
    def known_languages(self) -> frozenset[str]:
        """The codes of the languages that it can be told."""
        return languages_of(self.language)

    def transcribe(
        self, requests: Sequence[DecodingRequest], context: Context, fallback: bool = False
    ) -> list[Transcript]:
        """Transcribe clips of any mix, in their order, as torch does up to what quantisation changes."""
        return transcribe_batch(self, self.processor, requests, context, self.language)

    def logits(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [1, T, V] of what ``ClipFeatures.pad_batch`` makes of one clip."""
        names = [one.name for one in self.session.get_inputs()]  # the exporter drops what a network does not use
        return torch.from_numpy(self.session.run(["logits"], {name: batch[name].numpy() for name in names})[0])


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds are not exported by name
        raise UserError(f"{path}: ONNX Runtime cannot load it: {one_line(error)[:200]}", "export it again") from None
