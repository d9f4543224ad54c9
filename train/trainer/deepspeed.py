"""DeepSpeed's settings, derived from the run's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from asr.errors import UserError
from asr.parsed import JsonObject
from train.config import TrainConfig

# What may not be amended, and the key of ours that it follows from.
_FOLLOWS = {
    "train_batch_size": "batching.max_clips",
    "train_micro_batch_size_per_gpu": "batching.max_clips",
    "gradient_accumulation_steps": "batching.micro_batches_per_step",
    "gradient_clipping": "optim.max_grad_norm",
    "optimizer": "optim",
    "scheduler": "optim.schedule",
    "bf16.enabled": "precision",
    "fp16.enabled": "precision",
    "zero_optimization.stage": "parallelism",
    "zero_optimization.offload_optimizer.device": "offload",
    "zero_optimization.offload_param.device": "offload",
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": "parallelism",
}


def derive(config: TrainConfig, world_size: int) -> JsonObject | None:
    """Return DeepSpeed's settings for so many workers, or None for ddp, which does without.

    ``auto`` is filled in by transformers, from the width of the network. Raises UserError where ``deepspeed`` amends
    what follows from another key.
    """
    if config.parallelism == "ddp":
        return None
    stage = int(config.parallelism.removeprefix("zero"))
    zero: JsonObject = {"stage": stage, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,  # else checkpoints hold no model.safetensors
        }
    if config.offload == "cpu":
        elsewhere = {"device": "cpu", "pin_memory": config.workers.gpu}
        zero["offload_optimizer"] = elsewhere
        if stage == 3:
            zero["offload_param"] = dict(elsewhere)
    settings: JsonObject = {
        "train_micro_batch_size_per_gpu": config.batching.max_clips,  # DeepSpeed asks; batches come as they are
        "gradient_accumulation_steps": -(-config.batching.micro_batches_per_step // world_size),
        "gradient_clipping": config.optim.max_grad_norm,
        "bf16": {"enabled": config.precision == "bf16"},
        "fp16": {"enabled": config.precision == "fp16"},
        "zero_optimization": zero,
        # The optimiser is transformers' AdamW, as under ddp: DeepSpeed's own for the CPU takes a compiler on each node.
        "zero_force_ds_cpu_optimizer": False,
    }
    _refuse_contradictions(config.deepspeed)
    return _merged(settings, config.deepspeed)


def fixed_world_size(parallelism: str) -> bool:
    """Return whether a run must go on with as many workers as it started with: each has a part of the optimiser."""
    return parallelism != "ddp"


def skip_kernels() -> None:
    """Keep DeepSpeed from compiling its shared-memory reduction for CPUs, a minute on each new node.

    Only its inference engine calls it. Where there is no compiler, the attempt would end the run.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _refuse_contradictions(amendments: JsonObject) -> None:
    for path in _paths(amendments):
        for key, ours in _FOLLOWS.items():
            if f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}."):
                raise UserError(f"deepspeed.{path} contradicts {ours}, from which it follows", f"set {ours} instead")


def _paths(tree: JsonObject, prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _merged(settings: JsonObject, amendments: JsonObject) -> JsonObject:
    merged = deepcopy(settings)
    for key, value in amendments.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else deepcopy(value)
    return merged
