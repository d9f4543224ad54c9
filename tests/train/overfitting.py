"""CTC checkpoints of random weights that are large enough to learn eight clips by heart in seconds."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from asr.audio.decode import SAMPLE_RATE
from asr.config import resolve
from asr.models.family import SpeechModel
from asr.models.head import InitialModel
from asr.utterance import Utterance
from tests.asr.models.ctc import tiny
from tests.manifests import write_beside
from train.callbacks.gradient_flow import GradientWatch, steps_to_meet_all
from train.config import TrainConfig
from train.dataloader.collate import collate
from train.dataloader.preprocess import prepare
from train.examples import MicroBatchSpec, PackedExample
from train.run.initial import initial_model
from train.trainer.adapter import adapt, load_base
from train.trainer.arguments import arguments
from train.trainer.trainer import MicroBatchTrainer

_LARGER = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 4}


def write_base(folder: Path, name: str) -> Path:
    """Write the checkpoint that stands for one of ``tiny.CONFIGS``, larger, with weights as transformers draws them."""
    settings: dict[str, Any] = dict(_LARGER)
    if name in tiny.PIECEWISE:
        settings = {
            "encoder_config": tiny.CONFIGS[name]["encoder_config"] | _LARGER | {"subsampling_conv_channels": 16}
        }
    elif "conv_dim" in tiny.CONFIGS[name]:
        settings |= {"conv_dim": [24] * 7}
    tiny.write(folder, name, **settings)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder)
    MODEL_FOR_CTC_MAPPING[type(config)](config).save_pretrained(folder)
    return folder


class Same(IterableDataset):
    """A few batches, again and again."""

    def __init__(self, batches: Sequence[dict[str, torch.Tensor]], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([dict(batch) for batch in islice(cycle(self.batches), self.steps)])


class Learnt(TrainerCallback):
    """Ends training where the clips of all batches are known by heart."""

    def __init__(self, batches: int) -> None:
        self.losses = deque([1.0] * batches, maxlen=batches)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: object
    ) -> None:
        self.losses.append(logs.get("loss", 1.0))
        if max(self.losses) < 0.005:
            control.should_training_stop = True


def settings(base: Path, manifest: Path, *words: str) -> TrainConfig:
    """A run of one micro-batch a step, with a vocabulary of the manifest's transcripts.

    It is of subwords where the checkpoint's is: a second has too few positions for the letters.
    """
    subword = ["ctc.unit=subword", "ctc.subwords=80"] if base.name in tiny.PIECEWISE else []
    plain = [
        f"base={base}",
        f"data.train={manifest}",
        "workers.cpus_each=1",
        "optim.warmup_steps=20",
        "optim.schedule=constant_with_warmup",
    ]
    plain += ["ctc.vocabulary=transcripts", "ctc.casing=lower", "ctc.punctuation=drop", "ctc.language_model=none"]
    plain += ["batching.micro_batches_per_step=1", "strategy=full", "optim.learning_rate=0.003", "lora.rank=4"]
    return resolve(TrainConfig, None, [*plain, *subword, *words]).value


def shortest(clips: Sequence[Utterance], count: int) -> list[Utterance]:
    """The shortest clips, each with its own words."""
    own = {clip.text: clip for clip in clips}
    return sorted(own.values(), key=lambda clip: clip.duration_s or 0)[:count]


def batches_of(config: TrainConfig, initial: InitialModel, clips: Sequence[Utterance]) -> list[dict[str, torch.Tensor]]:
    """The clips as training has them, in one micro-batch.

    Where the network hears the padding, those of like length are in one: eight clips do not teach it what silence is.
    """
    preprocess = config.preprocess(initial)
    features = preprocess.processor.features
    groups: dict[float, list[Utterance]] = defaultdict(list)
    for clip in clips:
        frames = features.num_frames(round((clip.duration_s or 0) * SAMPLE_RATE))
        groups[features.encoder_s(frames, "short") if features.hears_padding else 2.0].append(clip)
    rows = [
        prepare(MicroBatchSpec(tuple(PackedExample((clip,)) for clip in group), seconds), preprocess)
        for seconds, group in sorted(groups.items())
    ]
    assert all(row.faults == () for row in rows)
    return [collate(row, preprocess.processor) for row in rows]


def learn(
    config: TrainConfig, manifest: Path, clips: Sequence[Utterance], folder: Path, resume: Path | None = None
) -> tuple[SpeechModel, MicroBatchTrainer]:
    """Train on the clips, all of them in each step, as a worker does; the network is ready to decode afterwards."""
    write_beside(manifest, list(clips))
    initial = initial_model(config)
    model = load_base(initial.checkpoint(), config.strategy, config.precision)
    network = adapt(model.network, config.strategy, config.lora, config.regularisation)
    batches = batches_of(config, initial, clips)
    done = int(resume.name.rpartition("-")[2]) if resume else 0
    trainer = MicroBatchTrainer(
        model=network,
        args=arguments(config, folder, 1),
        train_dataset=Same(batches, config.optim.max_steps - done),
        compute_loss_func=model.family.loss(model.network),
        callbacks=[GradientWatch(steps_to_meet_all(config.ctc.layerdrop)), Learnt(len(batches))],
    )
    trainer.head = model.family.layers(model.network).head
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    network.eval()
    return replace(model, short_context=True), trainer


def said_by_transformers(folder: Path, sounds: Sequence[NDArray[np.float32]], multiple: int | None = None) -> list[str]:
    """What transformers hears by itself of a saved network, sound by sound, each padded to ``multiple`` samples."""
    network = AutoModelForCTC.from_pretrained(folder).eval()
    tokenizer, extractor = AutoTokenizer.from_pretrained(folder), AutoFeatureExtractor.from_pretrained(folder)
    texts = []
    for sound in sounds:
        padding = {"padding": True, "pad_to_multiple_of": multiple} if multiple else {}
        inputs = extractor(sound, sampling_rate=SAMPLE_RATE, return_tensors="pt", **padding)
        with torch.no_grad():
            # Parakeet's own way: what a network says behind the sound, in the extractor's last frame, is no word.
            own = getattr(network, "generate", None)
            ids = own(**inputs) if own else network(**inputs).logits.argmax(-1)
        texts.append(tokenizer.decode(ids[0]))
    return texts
