"""The verb ``demo``. Its stages are imported once the options are read: with them come torch, transformers and Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from asr.config import resolve
from cluster.project import configurations
from train.config import TrainConfig

CONFIG = configurations()["demo"]
_RESULT = "result.json"  # written last: the demo in this folder went the whole way


def demo(
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over demo.yaml.")] = None,
    manifest: Annotated[str, typer.Option(help="Speech: data of your own, or prompts:it.")] = "prompts:it",
    runs: Annotated[Path, typer.Option(help="Folder of the demo's runs.")] = Path("runs"),
) -> None:
    folder = run_folder(runs)
    config = resolve(
        TrainConfig,
        CONFIG,
        [f"data.train={folder / 'data' / 'train.jsonl'}", f"run.folder={runs}", f"run.name={folder.name}"]
        + (settings or []),
    ).value
    from whisperfleet.stages import whole_way

    outcome = whole_way(config, folder, manifest).line()
    (folder / _RESULT).write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    print(json.dumps(outcome), flush=True)


def run_folder(runs: Path) -> Path:
    """Return the newest demo run that did not finish, or the folder of a new one."""
    numbers = [int(path.name.removeprefix("demo-")) for path in runs.glob("demo-*") if path.name[5:].isdecimal()]
    newest = max(numbers, default=0)
    unfinished = newest and not (runs / f"demo-{newest}" / _RESULT).is_file()
    return runs / f"demo-{newest if unfinished else newest + 1}"
