"""Every file that people copy from configs/: valid, and taken through `check` on data in the format that it names."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio.decode import decode
from asr.config import resolve
from asr.utterance import Utterance
from cluster.gpus import parse
from serve.config import ServeConfig
from tests.asr.models.ctc import tiny
from tests.manifests import write_beside
from tests.train.checks.doctored import tiny_checkpoint
from train.capacity.options import options
from train.capacity.shapes import shape_of
from train.checks.check import check
from train.config import TrainConfig
from train.data.config import DataConfig

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
RECIPES = sorted(path for path in CONFIGS.rglob("*.yaml") if not path.name.startswith("serve"))
SERVING = sorted(path for path in CONFIGS.rglob("*.yaml") if path.name.startswith("serve"))

# What a test machine has not: GPUs, eight workers, the hub.
SMALL = ["workers.gpu=false", "workers.count=1", "workers.cpus_each=1", "precision=fp32"]

DHIVEHI = (
    "ދިވެހިރާއްޖެއަކީ އިންޑިޔާ ކަނޑުގައި އޮންނަ ޤައުމެކެވެ",
    "މިއަދު މޫސުން ރަނގަޅު",
    "އަހަރެން ދިވެހި ބަހުން ވާހަކަ ދައްކަން",
    "މާލެއަކީ ރާއްޖޭގެ ވެރިރަށެވެ",
)
ITALIAN = ("Premere il tasto cancelletto", "La casella vocale è piena", "Digitare il numero", "Lasciare un messaggio")


@pytest.fixture
def workplace(tmp_path: Path, english_clips: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, and in it checkpoints whose weights are random, by the name of what they stand for."""
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "whisper")
    tiny.write(tmp_path / "wav2vec2", "wav2vec2-large-lv60")
    return tmp_path


def write_data(data: DataConfig, clips: list[Utterance]) -> None:
    """Write each local source that a recipe reads, in its format. No two of them share a transcript or a clip."""
    sources = [*data.sources, *filter(None, [data.validation, data.retention])]
    for number, source in enumerate(sources):
        some = clips[number * 4 : number * 4 + 4]
        if source.format == "common_voice":
            texts = [f"{text} {DHIVEHI[number]}" for text in DHIVEHI]
            write_release(Path(source.source), source.split or "", some, texts)
        else:
            named = zip(some, ITALIAN, strict=True)
            rows = [replace(clip, text=f"{text} {'abc'[number]}", language="it") for clip, text in named]
            write_beside(Path(source.source), rows)


def write_release(folder: Path, split: str, clips: list[Utterance], texts: list[str]) -> None:
    """Write one split of a Common Voice release, as version 13 has it: MP3 clips and a table."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    with (folder / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(
            ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accents", "locale"]
        )
        for clip, text in zip(clips, texts, strict=True):
            name = f"common_voice_dv_{clip.id.replace('/', '-')}.mp3"
            (folder / "clips" / name).write_bytes(mp3(decode(clip.audio)))
            table.writerow(["speaker", name, text, 2, 0, "", "", "", "dv"])


def mp3(waveform: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as media:
        stream = media.add_stream("libmp3lame", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    return buffer.getvalue()


def test_there_are_few_configs_and_all_are_yaml() -> None:
    assert len(RECIPES) >= 1
    assert len(SERVING) >= 1
    files = [path for path in CONFIGS.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([*RECIPES, *SERVING])
    assert len(files) <= 8


@pytest.mark.parametrize("path", SERVING, ids=lambda path: path.name)
def test_an_endpoint_s_config_is_valid(path: Path) -> None:
    assert resolve(ServeConfig, path, ["model=builtin:base"]).value


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_is_valid_as_it_stands(path: Path) -> None:
    config = resolve(TrainConfig, path).value
    every = config.evaluation.every_steps
    assert every is None or every % config.run.checkpoint_every_steps == 0


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "gpus"),
    [
        ("dhivehi-small.yaml", "1x16GB"),
        ("large-v3-lora-24gb.yaml", "1x24GB"),
        ("large-v3-zero3-8gpu.yaml", "8x24GB"),
    ],
)
def test_a_recipe_fits_the_gpus_that_it_is_for(name: str, gpus: str) -> None:
    """By the prediction of `plan`."""
    config = resolve(TrainConfig, CONFIGS / name).value
    found = options(config, shape_of(config.base), parse(gpus, lambda: 0.0))
    (as_written,) = (
        option
        for option in found
        if (option.setup.strategy, option.setup.parallelism, option.setup.offload)
        == (config.strategy, config.parallelism, config.offload)
    )
    assert as_written.reason == ""


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_passes_check_on_data_in_its_format(
    path: Path, workplace: Path, english_clips: list[Utterance]
) -> None:
    kind = "wav2vec2" if "wav2vec2" in resolve(TrainConfig, path).value.base else "whisper"
    config = resolve(TrainConfig, path, [*SMALL, f"base={workplace / kind}"]).value
    write_data(config.data, english_clips)
    outcomes = {result.name: result.outcome for result in check(config)}
    trouble = {name: outcome for name, outcome in outcomes.items() if outcome.state in ("failed", "warning")}
    assert trouble == {}
    skipped = {name for name, outcome in outcomes.items() if outcome.state == "skipped"}
    assert skipped <= {"augmentation"} | ({"overlap", "held-out audio"} if config.data.validation is None else set())


def test_the_dhivehi_recipe_has_the_course_s_hyperparameters() -> None:
    """https://huggingface.co/learn/audio-course/chapter5/fine-tuning, its Seq2SeqTrainingArguments."""
    config = resolve(TrainConfig, CONFIGS / "dhivehi-small.yaml").value
    assert (config.base, config.language, config.task) == ("openai/whisper-small", "si", "transcribe")
    assert (config.strategy, config.precision, config.activation_checkpointing) == ("full", "fp16", True)
    optim, batching = config.optim, config.batching
    assert (optim.learning_rate, optim.schedule, optim.warmup_steps) == (1e-5, "constant_with_warmup", 50)
    assert (optim.max_steps, optim.weight_decay, optim.max_grad_norm) == (500, 0.0, 1.0)
    assert (batching.max_clips, batching.micro_batches_per_step, config.evaluation.every_steps) == (16, 1, 500)
    assert batching.max_audio_s >= 16 * 30 and batching.max_tokens >= 16 * 448  # nothing else makes a batch smaller
    assert [(source.format, source.split) for source in config.data.sources] == [
        ("common_voice", "train"),
        ("common_voice", "dev"),
    ]


def test_the_turkish_recipe_has_the_blog_s_hyperparameters() -> None:
    """https://huggingface.co/blog/fine-tune-xlsr-wav2vec2, its TrainingArguments and what it does to the text."""
    config = resolve(TrainConfig, CONFIGS / "xls-r-turkish.yaml").value
    assert (config.base, config.head, config.language) == ("facebook/wav2vec2-xls-r-300m", "ctc", "tr")
    assert (config.strategy, config.precision, config.activation_checkpointing) == (
        "frozen_feature_encoder",
        "fp16",
        True,
    )
    ctc, optim, batching = config.ctc, config.optim, config.batching
    assert (ctc.vocabulary, ctc.casing, ctc.punctuation) == ("transcripts", "lower", "drop")
    assert (ctc.head_learning_rate, ctc.layerdrop) == (1.0, 0.0)
    assert (optim.learning_rate, optim.schedule, optim.warmup_steps) == (3e-4, "linear", 500)
    assert (optim.max_steps, optim.weight_decay, optim.max_grad_norm) == (30 * -(-3478 // 32), 0.0, 1.0)
    assert (batching.max_clips, batching.micro_batches_per_step) == (16, 2)
    assert (config.evaluation.every_steps, config.run.checkpoint_every_steps, config.run.keep_checkpoints) == (
        400,
        400,
        2,
    )
