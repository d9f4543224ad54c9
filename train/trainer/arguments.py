"""transformers' training arguments, derived from the run's configuration and never written by hand."""

from __future__ import annotations

from pathlib import Path

from transformers import Seq2SeqTrainingArguments

from train.config import TrainConfig
from train.trainer.deepspeed import derive, skip_kernels
from train.trainer.strategy import CHECKPOINTING


def arguments(config: TrainConfig, output: Path, world_size: int) -> Seq2SeqTrainingArguments:
    """Derive transformers' arguments from the run's configuration."""
    optim, run = config.optim, config.run
    deepspeed = derive(config, world_size)
    if deepspeed and not config.workers.gpu:
        skip_kernels()
    return Seq2SeqTrainingArguments(
        output_dir=str(output),
        max_steps=optim.max_steps,
        learning_rate=optim.learning_rate,
        warmup_steps=optim.warmup_steps,
        lr_scheduler_type=optim.schedule,
        weight_decay=optim.weight_decay,
        max_grad_norm=optim.max_grad_norm,
        per_device_train_batch_size=config.batching.max_clips,  # for DeepSpeed's books; batches come from the plan
        gradient_accumulation_steps=-(-config.batching.micro_batches_per_step // world_size),
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        deepspeed=deepspeed,
        # Each trained weight is used by each batch, unless layers are left out: no need to search in each step.
        ddp_find_unused_parameters=config.ctc.layerdrop > 0,
        activation_checkpointing=config.activation_checkpointing,
        activation_checkpointing_kwargs=CHECKPOINTING,
        torch_compile=config.compile,
        use_cpu=not config.workers.gpu,
        seed=config.seed,
        save_strategy="steps",
        save_steps=run.checkpoint_every_steps,
        save_total_limit=None,  # train/checkpoints/upload.py deletes each once it is uploaded; some may be on their way
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # else the mean of earlier losses is logged in place of NaN
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        ignore_data_skip=True,  # the data set starts at the right step by itself, without decoding what was consumed
        average_tokens_across_devices=True,
    )
