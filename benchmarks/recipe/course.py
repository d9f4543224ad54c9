"""The recipe that people use today: `datasets.map` to padded features on disk, then `Seq2SeqTrainer` on 30 s a clip.

After chapter 5 of Hugging Face's audio course (huggingface.co/learn/audio-course/chapter5/fine-tuning, read at commit
03d2a2f of huggingface/audio-transformers-course), brought to transformers 5.23. What differs from the course, and why:

- arguments that were renamed: ``eval_strategy``, ``processing_class``;
- weights in fp32, as the hub's are (our builtin files are fp16), without mixed precision, as a CPU has no fp16;
- no gradient checkpointing unless it is asked for: it saves memory and costs time;
- eight clips a step and the steps, warm-up and learning rate of the benchmark, the same on both sides;
- with LoRA, what PEFT asks of a Trainer: ``remove_unused_columns=False`` and ``label_names``;
- clips are decoded by ours (PyAV), as ``datasets`` would need torchcodec; the word error rate comes from our metric, as
  ``evaluate`` would fetch one from the hub;
- nothing is pushed to the hub, and nothing logged to TensorBoard.

Kept as published: the start-of-transcript that the model puts before labels that have one already (the collator
compares with ``bos_token_id``, which is another token: audio-transformers-course#85).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
import evaluate
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    Seq2SeqTrainingArguments,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    set_seed,
)
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from asr.audio.decode import SAMPLE_RATE
from asr.audio.decode import decode as decode_audio
from asr.data.manifest import read_manifest
from asr.models.checkpoint import find_checkpoint
from asr.parsed import JsonObject
from asr.scoring import metrics
from benchmarks.recipe.watched import Counting, Course, CourseTrainer, Reporting
from benchmarks.recipe.work import Clock, Work, say

MAX_INPUT_S = 30.0


def main() -> None:
    """Prepare, train and evaluate as the work file says that is the first argument."""
    work, clock = Work.read(Path(sys.argv[1])), Clock()
    set_seed(work.seed)
    say("phase", name="preparing")
    folder = find_checkpoint(work.base).folder
    multilingual = not work.base.endswith(".en")
    processor = WhisperProcessor.from_pretrained(
        folder, **({"language": work.language, "task": "transcribe"} if multilingual else {})
    )
    speech = prepared(work, processor)
    prepared_s = clock.seconds
    say("phase", name="training")
    model = load_model(folder, work, multilingual)
    course = Course(work, clock)
    trainer = CourseTrainer(
        course=course,
        args=arguments(work),
        model=model,
        train_dataset=speech["train"],
        eval_dataset=speech["validation"],
        data_collator=Counting(DataCollatorSpeechSeq2SeqWithPadding(processor), course),
        compute_metrics=partial(compute_metrics, processor, course),
        processing_class=processor,
        callbacks=[Reporting(course)],
    )
    trainer.train()
    result = course.result(prepared_s, sum(path.stat().st_size for path in cache_folder(work).rglob("*.arrow")))
    if not work.probe:
        trainer.evaluate(speech["test"], metric_key_prefix="test")
        result |= course.score("test")
    say("result", **result)


def cache_folder(work: Work) -> Path:
    """Return where `datasets` keeps what it makes of the manifests."""
    return Path(work.folder).parent / "datasets"


def prepared(work: Work, processor: WhisperProcessor) -> datasets.DatasetDict:
    """Return the splits as rows of features padded to 30 s and labels, cached on disk as Arrow files."""
    cache_folder(work).mkdir(exist_ok=True)
    speech = datasets.DatasetDict()
    for split, manifest in work.manifests.items():
        rows = cache_folder(work) / f"{split}.jsonl"
        if not rows.exists():
            clips = read_manifest(Path(manifest))
            table = {"audio": [str(clip.audio) for clip in clips], "sentence": [clip.text for clip in clips]}
            datasets.Dataset.from_dict(table).to_json(rows)
        speech[split] = datasets.load_dataset(
            "json", data_files=str(rows), split="train", cache_dir=str(cache_folder(work))
        )
    speech = speech.map(
        prepare_dataset, fn_kwargs={"processor": processor}, remove_columns=["audio", "sentence"], num_proc=2
    )
    speech["train"] = speech["train"].filter(lambda length: length < MAX_INPUT_S, input_columns=["input_length"])
    return speech


def prepare_dataset(example: JsonObject, processor: WhisperProcessor) -> JsonObject:
    """Turn one row into features over 30 s, labels and the clip's length in seconds."""
    waveform = decode_audio(example["audio"])
    row = processor(audio=waveform, sampling_rate=SAMPLE_RATE, text=example["sentence"])
    row["input_length"] = len(waveform) / SAMPLE_RATE
    return dict(row)


@dataclass
class DataCollatorSpeechSeq2SeqWithPadding:
    """Features as they are, labels padded with -100."""

    processor: WhisperProcessor

    def __call__(self, features: list[JsonObject]) -> dict[str, torch.Tensor]:
        extractor, tokenizer = self.processor.feature_extractor, self.processor.tokenizer
        batch = extractor.pad([{"input_features": row["input_features"][0]} for row in features], return_tensors="pt")
        padded = tokenizer.pad([{"input_ids": row["labels"]} for row in features], return_tensors="pt")
        labels = padded["input_ids"].masked_fill(padded["attention_mask"].ne(1), -100)
        if bool((labels[:, 0] == tokenizer.bos_token_id).all()):  # never: see above
            labels = labels[:, 1:]
        batch["labels"] = labels
        return dict(batch)


def load_model(folder: Path, work: Work, multilingual: bool) -> PreTrainedModel:
    """Return the network, told what to decode, with the weights that are to be trained."""
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    model.config.use_cache = False
    if multilingual:
        model.generation_config.language = work.language
        model.generation_config.task = "transcribe"
    model.generate = partial(model.generate, use_cache=True)
    if work.strategy == "full":
        return model
    lora = work.lora
    model.name_or_path = ""  # else PEFT asks the hub about the base whenever a checkpoint is written
    return get_peft_model(
        model,
        LoraConfig(
            r=lora["rank"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=list(lora["target_modules"]),
        ),
    )


def arguments(work: Work) -> Seq2SeqTrainingArguments:
    """Return the course's arguments with the benchmark's figures."""
    when = "no" if work.probe else "steps"
    return Seq2SeqTrainingArguments(
        output_dir=str(Path(work.folder) / "checkpoints"),
        per_device_train_batch_size=work.clips_per_step,
        gradient_accumulation_steps=1,
        learning_rate=work.learning_rate,
        warmup_steps=work.warmup_steps,
        max_steps=work.steps,
        activation_checkpointing=work.gradient_checkpointing,  # by its new name
        use_cpu=True,
        eval_strategy=when,
        per_device_eval_batch_size=8,
        predict_with_generate=True,
        generation_max_length=225,
        save_strategy=when,
        save_steps=work.save_every_steps,
        eval_steps=work.save_every_steps,
        logging_steps=1,
        report_to=[],
        load_best_model_at_end=not work.probe,
        metric_for_best_model="wer",
        greater_is_better=False,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        seed=work.seed,
    )


def compute_metrics(processor: WhisperProcessor, course: Course, prediction: EvalPrediction) -> dict[str, float]:
    """Return the course's two figures: orthographic WER, and normalised by Whisper's basic normaliser."""
    tokenizer = processor.tokenizer
    ids = prediction.label_ids
    ids[ids == -100] = tokenizer.pad_token_id
    heard = processor.batch_decode(prediction.predictions, skip_special_tokens=True)
    said = processor.batch_decode(ids, skip_special_tokens=True)
    course.heard = heard
    metric = evaluate.load(str(Path(metrics.__file__).parent / "wer"))
    normalise = BasicTextNormalizer()
    pairs = [(normalise(h), normalise(s)) for h, s in zip(heard, said, strict=True)]
    pairs = [pair for pair in pairs if pair[1]]
    plain = metric.compute(predictions=[h for h, _ in pairs], references=[s for _, s in pairs])
    return {"wer_ortho": 100 * metric.compute(predictions=heard, references=said)["wer"], "wer": 100 * plain["wer"]}


if __name__ == "__main__":
    main()
