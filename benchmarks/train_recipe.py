"""Fine-tuning against the recipe of Hugging Face's audio course: the same clips, alternating, in one run.

    .venv/bin/python -m benchmarks.train_recipe [--steps 24] [--rounds 2] [--save benchmarks/results/train_recipe.json]

Both sides start from the same checkpoint and train the same weights (LoRA of rank 32, bearable on two cores, unless
--strategy full) with AdamW, the same learning rate, warm-up and number of utterances. Each has processes of its own.
Ours runs --rounds times, from the command to the artifact, between equal parts of the recipe's one run, which stands
still meanwhile. Progress goes to stderr; the last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from asr.data.manifest import read_manifest, write_manifest
from asr.data.sources import SourceConfig
from asr.parsed import JsonObject
from asr.utterance import Utterance
from benchmarks.preprocess import measure
from benchmarks.provenance import provenance, tell
from benchmarks.recipe.figures import compare, table
from benchmarks.recipe.side import Side
from benchmarks.recipe.work import Work
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of
from train.trainer.strategy import LoraSettings

CLIPS_PER_STEP = 8
CHECKPOINTS = 4
LEARNING_RATES = {"lora": 1e-3, "full": 1e-5}
PROBE_STEPS = 2
_FEATURE_FILES = (".arrow", ".npy", ".npz")
_KEPT = ("audio_s", "train_s", "wer", "wer_low", "wer_high", "peak_gb_by_name")
_VERSIONS = ("whisperfleet", "torch", "transformers", "peft", "ray", "datasets", "accelerate")


def main() -> None:
    """Print the table, then the JSON line."""
    asked = _options().parse_args()
    if asked.steps % CHECKPOINTS:
        raise SystemExit(f"--steps {asked.steps} is no multiple of {CHECKPOINTS}, the checkpoints that are evaluated")
    with TemporaryDirectory(prefix="wf-") as folder:  # short, as paths of Ray's sockets may have 107 characters
        result = run(asked, Path(folder))
    Console().print(table(result))
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser()
    options.add_argument("--base", default="builtin:base")
    options.add_argument("--language", default="it", help="of the telephone prompts")
    options.add_argument("--strategy", default="lora", choices=sorted(LEARNING_RATES))
    options.add_argument("--steps", type=int, default=24, help=f"of the recipe, {CLIPS_PER_STEP} clips each")
    options.add_argument("--rounds", type=int, default=2, help="whole runs of ours, between parts of the recipe's")
    options.add_argument("--save", type=Path)
    options.add_argument(
        "settings", nargs="*", metavar="key=value", help="of our run, as `whisperfleet train` takes them"
    )
    return options


def run(asked: argparse.Namespace, folder: Path) -> JsonObject:
    """Return all figures; ``folder`` is for everything that is written on the way."""
    tell(f"preparing prompts:{asked.language}")
    prepared = prepare(rows_of(SourceConfig(source=f"prompts:{asked.language}")), folder / "data", PrepareConfig())
    clips = chosen(prepared.manifests["train"], asked.steps * CLIPS_PER_STEP)
    work = Work(
        base=asked.base,
        language=asked.language,
        strategy=asked.strategy,
        learning_rate=LEARNING_RATES[asked.strategy],
        steps=asked.steps,
        warmup_steps=max(1, asked.steps // 10),
        save_every_steps=asked.steps // CHECKPOINTS,
        clips_per_step=CLIPS_PER_STEP,
        seed=0,
        manifests={split: str(path) for split, path in prepared.manifests.items()},
        folder=str(folder / "recipe"),
        lora=LoraSettings().model_dump(mode="json"),
        pauses=tuple(asked.steps * number // asked.rounds for number in range(asked.rounds)),
    )
    tell("preprocessing alone")
    efficiency = measure(rounds=2)
    probe = replace(
        work,
        folder=str(folder / "apart" / "recipe_checkpointing"),  # its Arrow files are no gift to the run that is timed
        steps=PROBE_STEPS,
        pauses=(),
        gradient_checkpointing=True,
        probe=True,
    )
    with Side("benchmarks.recipe.course", probe, environment(folder), tell) as side:
        probed = side.result()
    ours, recipe = alternate(work, asked.rounds, asked.settings, folder)
    lengths = [clip.duration_s or 0.0 for clip in clips]
    return {
        "benchmark": "train_recipe",
        **compare(ours, recipe, probed),
        **efficiency,
        **described(asked),
        "clips": prepared.clips | {"train": len(clips)},
        "clip_s": round(sum(lengths) / len(lengths), 2),
        "utterances_ours": [run["utterances"] for run in ours],
        "utterances_recipe": recipe["utterances"],
        "steps_ours": [run["steps"] for run in ours],
        "rounds": [{name: run[name] for name in _KEPT} for run in ours],
        "recipe": {name: recipe[name] for name in (*_KEPT, "prepare_s")},
        "curves": {"ours": [run["curve"] for run in ours], "recipe": recipe["curve"]},
    }


def chosen(manifest: Path, number: int) -> list[Utterance]:
    """Leave so many clips in a manifest, or all, and return them: each side then meets each of them once.

    Chosen at random, as the seconds of speech that either side trains on must not depend on what it happens to draw.
    """
    clips = read_manifest(manifest)
    clips = random.Random(0).sample(clips, min(number, len(clips)))
    write_manifest(manifest, clips)
    return clips


def alternate(work: Work, rounds: int, settings: Sequence[str], folder: Path) -> tuple[list[JsonObject], JsonObject]:
    """Return the figures of our runs and of the recipe's one run, which took turns."""
    ours = []
    with Side("benchmarks.recipe.course", work, environment(folder), tell) as recipe:
        for number in range(rounds):
            recipe.until_pause()
            ours.append(one_of_ours(work, number, settings, folder))
            recipe.go()
        return ours, recipe.result()


def one_of_ours(work: Work, number: int, settings: Sequence[str], folder: Path) -> JsonObject:
    """Return the figures of one whole run of ours, with a seed of its own."""
    place = folder / f"ours_{number + 1}"
    own = replace(work, folder=str(place), seed=number, pauses=(), settings=tuple(settings))
    with Side("benchmarks.recipe.ours", own, environment(folder), tell) as side:
        result = side.result()
    files = sum(path.stat().st_size for path in place.rglob("*") if path.suffix in _FEATURE_FILES)
    return result | {"feature_bytes": files + side.memory.spilled_bytes}


def environment(folder: Path) -> dict[str, str]:
    """Return what both sides find in their environment: all cores, no hub, and Ray's files where they are counted."""
    return {
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "hf_datasets"),
        "RAY_TMPDIR": str(folder),
    }


def described(asked: argparse.Namespace) -> JsonObject:
    """Return what was run, on what, and from which commit."""
    return {
        "base": asked.base,
        "language": asked.language,
        "strategy": asked.strategy,
        "settings": asked.settings,
        "steps": asked.steps,
        **provenance(_VERSIONS),
    }


if __name__ == "__main__":
    main()
