"""One base network with the LoRA adapters of several artifacts: each row of a batch may use another adapter.

The arithmetic is PEFT's (its mixed batches): the base is computed once for all rows, an adapter for its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from safetensors import SafetensorError
from torch import nn

from asr.errors import UserError, one_line
from asr.models.family import SpeechModel, num_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Layers that take one row of the batch per row of their input, wherever they are called.
_BY_ROW = frozenset({"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"})
# What may differ between adapters of a batch. Anything else asks for more than adding two small matrices to a layer.
_MAY_DIFFER = frozenset(
    {
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "peft_version",
        "r",
        "rank_pattern",
        "revision",
        "use_rslora",
    }
)
_STARTS = (True, False, "gaussian")  # other ways of beginning an adapter change the base too

_ROWS: ContextVar[Sequence[str]] = ContextVar("rows", default=())


@contextmanager
def row_adapters(names: Sequence[str]) -> Iterator[None]:
    """Compute, inside, with these adapters: one for each row of what the network is given, ``NO_ADAPTER`` for none.

    For a network that is no ``MultiLoraBase``'s they are of no consequence.
    """
    token = _ROWS.set(names)
    try:
        yield
    finally:
        _ROWS.reset(token)


def is_mixable(folder: Path) -> bool:
    """Return whether the adapter in ``folder`` can share a batch with others.

    That is plain LoRA on the layers of attention and feed-forward, and not DoRA, biases, whole modules, or what PEFT
    will think of next.
    """
    from peft import LoraConfig

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    usual = LoraConfig().to_dict()
    special = {key for key, value in config.items() if value != usual.get(key)} - _MAY_DIFFER
    targets = config.get("target_modules")
    return (
        special <= {"target_modules", "init_lora_weights"}
        and config.get("init_lora_weights", True) in _STARTS
        and isinstance(targets, list)
        and set(targets) <= _BY_ROW
    )


class MultiLoraBase:
    """A base network held once, with named adapters that come and go while others are being decoded with.

    ``add`` and ``remove`` work on a copy of the module tree, which shares all weights, and put it in the old one's
    place when it is whole: what is being computed sees the old one to its end.
    """

    def __init__(self, model: SpeechModel) -> None:
        self._plain: SpeechModel | None = model
        self._network: PreTrainedModel = model.network
        self._names: list[str] = []
        self._added = 0
        self._busy, self._turn = Lock(), Lock()
        self.group = uuid4().hex

    @property
    def nbytes(self) -> int:
        """Bytes of the base's weights and of all adapters."""
        network = self._network
        return 0 if network is None else num_bytes(network)

    @property
    def model(self) -> SpeechModel:
        """The base without adapters. Raises ValueError once it has been closed."""
        if self._plain is None:
            raise ValueError("this base has been unloaded")
        return self._plain

    def adapter_nbytes(self, name: str) -> int:
        """Bytes of one adapter's weights."""
        return sum(
            weight.nbytes for key, weight in self._network.named_parameters() if f".{name}." in key and "lora_" in key
        )

    @contextmanager
    def busy(self) -> Iterator[SpeechModel]:
        """Hand out the network with all its adapters, to one thread at a time. It is called inside ``row_adapters``."""
        with self._alone():
            yield replace(self.model, network=self._network)

    def add(self, folder: Path) -> str:
        """Load the adapter in ``folder`` beside the others and return its name here. One thread at a time.

        Its base is this one and it ``is_mixable``: the caller has seen to that. Raises UserError where it does not fit.
        """
        from peft import PeftModel

        name = f"adapter{self._added}"
        device = str(self.model.network.device)
        options = {"autocast_adapter_dtype": False, "low_cpu_mem_usage": True, "torch_device": device}
        network = self._copy()
        try:
            if self._names:
                network.load_adapter(str(folder), name, is_trainable=False, **options)
            else:
                network = PeftModel.from_pretrained(network, str(folder), name, is_trainable=False, **options)
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            reason = one_line(error)
            raise UserError(f"{folder}: this adapter cannot be loaded: {reason}") from error
        _name_rows(network)
        self._network = network.eval()
        self._names.append(name)
        self._added += 1
        return name

    def remove(self, name: str) -> None:
        """Forget an adapter; its memory is free when nothing is decoded with it any more. One thread at a time."""
        remaining = [other for other in self._names if other != name]
        if remaining:
            network = self._copy()
            network.set_adapter(remaining[0])  # PEFT warns where the active one goes; which is, means nothing here
            network.delete_adapter(name)
            self._network = network
        else:
            self._network = self.model.network
        self._names = remaining

    def close(self) -> None:
        """Release all weights, even if somebody still holds this base."""
        self._plain = self._network = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turn:  # kept while waiting: who decodes batch after batch would not let anybody else in
            self._busy.acquire()
        try:
            yield
        finally:
            self._busy.release()

    def _copy(self) -> PreTrainedModel:
        """Return the module tree anew, around the same weights."""
        with self._alone():  # decoding puts hooks on modules for a while
            tensors = [*self._network.parameters(), *self._network.buffers()]
            return copy.deepcopy(self._network, {id(tensor): tensor for tensor in tensors})


def _name_rows(network: nn.Module) -> None:
    """Have each layer with adapters told which rows are whose, whoever calls it."""
    from peft.tuners.lora import LoraLayer

    for module in network.modules():
        if isinstance(module, LoraLayer) and not getattr(module, "is_told_rows", False):
            module.register_forward_pre_hook(_tell_rows, with_kwargs=True)
            module.is_told_rows = True


def _tell_rows(
    module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs | {"adapter_names": _ROWS.get()}
