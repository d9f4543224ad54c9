"""The last checkpoint of a run made into an artifact."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import ray.train
from transformers import GenerationConfig

from asr.artifact import BaseModel, Card, complete
from asr.cache import complete_or_absent
from asr.checkpoint import Checkpoint, find_checkpoint, hub_id
from asr.model import load_processor
from asr.utterance import Utterance
from train.config import TrainConfig
from train.prepare import fingerprint
from train.trainer import STATE

_ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
_FULL_FILES = ("model.safetensors", "config.json")
_VERSIONED = ("whisperfleet", "torch", "transformers", "peft", "ray", "av")


def hand_over(target: Path, config: TrainConfig, utterances: Sequence[Utterance], last: ray.train.Checkpoint) -> Card:
    """Write the artifact ``target``: the weights of a run's last checkpoint, and all that decoding needs with them."""
    base = find_checkpoint(config.base)
    with last.as_directory() as source, complete_or_absent(target) as draft:
        for name in _ADAPTER_FILES if config.strategy == "lora" else _FULL_FILES:
            shutil.copyfile(Path(source) / name, draft / name)
        if config.strategy == "lora":
            _amend(draft / "adapter_config.json", base_model_name_or_path=hub_id(config.base))
        else:  # transformers' class instead of our subclass: the weights are the same, and others load them
            _amend(draft / "config.json", architectures=["WhisperForConditionalGeneration"])
        _save_processor(base, config, draft)
        totals = json.loads((Path(source) / STATE).read_text(encoding="utf-8"))
        return complete(draft, _card(base, config, utterances, totals))


def _save_processor(base: Checkpoint, config: TrainConfig, draft: Path) -> None:
    tokenizer, log_mel = load_processor(base)
    tokenizer.save_pretrained(draft)
    log_mel.extractor.save_pretrained(draft)
    generation = GenerationConfig.from_pretrained(base.folder)
    if generation.is_multilingual:  # so that a plain transformers pipeline decodes as it was trained to
        generation.language, generation.task = config.language, config.task
    generation.save_pretrained(draft)


def _amend(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes, indent=2), encoding="utf-8")


def _card(base: Checkpoint, config: TrainConfig, utterances: Sequence[Utterance], totals: dict[str, Any]) -> Card:
    faults = Counter(fault.split(": ")[0] for fault in totals["faults"])
    return Card(
        weights="adapter" if config.strategy == "lora" else "full",
        base=BaseModel(name=config.base, digest=base.digest),
        language=config.language,
        task=config.task,
        # With every utterance padded to 30 s, nothing was learnt about shorter contexts.
        short_context=config.plan.full_window_share < 1.0,
        normaliser="normalised",
        data={
            "fingerprint": fingerprint(utterances),
            "clips": len(utterances),
            "audio_s": round(sum(utterance.duration_s or 0.0 for utterance in utterances), 3),
            "faults": dict(faults),
        },
        config=config.model_dump(mode="json"),
        training={name: totals[name] for name in ("step", "seconds", "audio_s", "wait_s")},
        versions={name: metadata.version(name) for name in _VERSIONED},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
