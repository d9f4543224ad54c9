"""Checkpoint folders with something wrong in them, and configurations of them, for the steps of `check`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.config import resolve
from asr.models.checkpoint import find_checkpoint
from asr.utterance import Utterance
from tests.asr.tiny_whisper import ENGLISH, MULTILINGUAL, random_whisper
from tests.manifests import write_beside
from train.checks.subject import Subject
from train.config import TrainConfig

_PROCESSOR = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json")


def tiny_checkpoint(folder: Path, processor_of: str = "builtin:base") -> Path:
    """Write a checkpoint of random weights, a few thousand but for the vocabulary, with a real vocabulary."""
    random_whisper(MULTILINGUAL if processor_of == "builtin:base" else ENGLISH).save_pretrained(folder)
    for name in _PROCESSOR:
        (folder / name).write_bytes((find_checkpoint(processor_of).folder / name).read_bytes())
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@contextmanager
def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Iterator[None]:
    """Change a JSON file for the length of a block."""
    before = path.read_bytes()
    edit(path, change)
    try:
        yield
    finally:
        path.write_bytes(before)


def subject(folder: Path, base: str | Path, clips: Sequence[Utterance], *settings: str) -> Subject:
    """Return what ``check`` looks at, for a run on ``clips`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_beside(folder / "train.jsonl", clips)
    given = [f"base={base}", f"data.train={folder / 'train.jsonl'}", f"run.folder={folder / 'runs'}", *settings]
    return Subject(resolve(TrainConfig, None, given).value)


def italian(clips: list[Utterance], *texts: str) -> list[Utterance]:
    """Some clips with Italian transcripts."""
    given = texts or ("Premere il tasto cancelletto", "La casella vocale è piena")
    return [replace(clip, text=given[i % len(given)], language="it") for i, clip in enumerate(clips[:4])]
