"""Writes a CTC network for ONNX Runtime: exported by torch, held against it, its matrices quantised.

Legend: T positions of the encoder, V symbols.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from torch import nn

from asr.audio.decode import SAMPLE_RATE
from asr.errors import UserError, one_line
from asr.models.backends import NotExportable
from asr.models.ctc.processor import CtcProcessor
from asr.models.ctc.torch_backend import TorchEmitter
from asr.models.export import MODEL
from asr.models.export_formats import Quantization
from asr.models.family import SpeechModel
from asr.models.head import NETWORK

FILE = MODEL["onnx"]
DATA = f"{FILE}.data"
"""Its weights: they may be more than the 2 GB that an ONNX file holds."""

_PACKAGES = ("onnx", "onnxscript")
_LENGTHS_S = (2.0, 0.7, 5.3)  # of clips that are held against torch; the first is exported with
_TOLERANCE = 0.02  # of probabilities


def can_export() -> bool:
    """Return whether the packages are there that an export needs; to run one, none but ONNX Runtime."""
    return all(find_spec(name) for name in _PACKAGES)


def write(model: SpeechModel, processor: CtcProcessor, folder: Path, quantization: Quantization) -> None:
    """Write the network, for one clip at a time, with its config. Raises UserError without the packages.

    Raises NotExportable where torch cannot export it, or what is exported says something else.
    """
    if quantization not in ("int8", "float32"):
        raise UserError(f"quantization={quantization} is not for onnx", "choose float32 or int8")
    if not can_export():
        raise UserError("packages are missing that write for ONNX Runtime", "pip install 'whisperfleet[onnx]'")
    random = np.random.default_rng(0)
    waves = [0.1 * random.standard_normal(round(length * SAMPLE_RATE), dtype=np.float32) for length in _LENGTHS_S]
    batches = [processor.features.pad_batch([model.features(wave)]) for wave in waves]
    with TemporaryDirectory(dir=folder) as scratch, _silence():
        path = (Path(scratch) if quantization == "int8" else folder) / FILE
        _export(model, batches, path)
        _compare(model, batches, path)
        if quantization == "int8":
            _quantize(path, folder / FILE)
    shutil.copyfile(processor.folder / NETWORK, folder / NETWORK)


class _Logits(nn.Module):
    """A network as a function of tensors, with its hook that says blank in padding."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self._network = network
        self._names = names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._network(**dict(zip(self._names, inputs, strict=True))).logits
        return logits


def _export(model: SpeechModel, batches: Sequence[dict[str, torch.Tensor]], path: Path) -> None:
    names = list(batches[0])
    # Whichever axis is of another size for another clip: that of frames.
    axes = [
        {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(one.shape) if size != batches[1][name].shape[axis]}
        for name, one in batches[0].items()
    ]
    try:
        with torch.no_grad():
            torch.onnx.export(
                _Logits(model.network, names).eval(),
                tuple(batches[0].values()),
                str(path),
                dynamo=True,
                input_names=names,
                output_names=["logits"],
                dynamic_shapes=(tuple(axes),),
                external_data=True,
                verbose=False,
            )
    except Exception as error:  # of many kinds: whatever a network's code does that cannot be traced
        what = f"'{model.name}' ({type(model.network).__name__}) cannot be exported for ONNX Runtime"
        raise NotExportable(f"{what}: {one_line(error.__cause__ or error)[:200]}", "use engine=torch") from error


def _compare(model: SpeechModel, batches: Sequence[dict[str, torch.Tensor]], path: Path) -> None:
    """Raise NotExportable where the exported network says something else than the network, of any length."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {one.name for one in session.get_inputs()}
    for batch in batches:
        given = {name: tensor.numpy() for name, tensor in batch.items() if name in taken}
        (logits_TV,) = torch.from_numpy(session.run(None, given)[0])
        (wanted_TV,) = TorchEmitter(model.network).logits(batch)
        said_TV, wanted_TV = logits_TV.softmax(-1), wanted_TV.softmax(-1)
        if said_TV.shape != wanted_TV.shape or (said_TV - wanted_TV).abs().max() > _TOLERANCE:
            what = f"'{model.name}' ({type(model.network).__name__}) says something else when exported for ONNX Runtime"
            raise NotExportable(what, "use engine=torch")


def _quantize(path: Path, target: Path) -> None:
    """Write matrices in int8; activations are quantised as they come. Convolutions stay as they are.

    Of eight bits seven are used: the sums of two products overflow in CPUs without instructions for neural networks.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        path,
        target,
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        use_external_data_format=True,
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from users what the exporters say of themselves."""
    before, nobody = logging.root.manager.disable, logging.NullHandler()
    logging.disable(logging.WARNING)
    logging.root.addHandler(nobody)  # else the first message of ONNX Runtime's gives the whole process a handler
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.removeHandler(nobody)
        logging.disable(before)
