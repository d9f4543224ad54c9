"""The verb ``demo``. Its stages are imported once the options are read: with them come torch, transformers and Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from asr.config import resolve
from asr.errors import UserError
from cluster.project import configurations
from train.config import TrainConfig

CONFIG = configurations()["demo"]
CTC_CONFIG = configurations()["ctc"]
_RESULT = "result.json"  # written last: the demo in this folder went the whole way


def demo(
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over demo.yaml.")] = None,
    manifest: Annotated[str, typer.Option(help="Speech: data of your own, or prompts:it.")] = "prompts:it",
    runs: Annotated[Path, typer.Option(help="Folder of the demo's runs.")] = Path("runs"),
    compare: Annotated[
        bool, typer.Option("--compare", help="Train a CTC head on the same encoder too, and compare the two.")
    ] = False,
    ctc: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Over ctc.yaml, in the run that --compare adds.")
    ] = None,
) -> None:
    if ctc and not compare:
        raise UserError("--ctc: its settings are for the run that --compare adds", "add --compare, or leave --ctc out")
    folder = run_folder(runs)
    config = resolve(TrainConfig, CONFIG, [*_place(folder, folder.name), *(settings or [])]).value
    other = ctc_run(config, folder, ctc or []) if compare else None
    from whisperfleet.stages import whole_way

    outcome = whole_way(config, folder, manifest, other).line()
    (folder / _RESULT).write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    print(json.dumps(outcome), flush=True)


def ctc_run(config: TrainConfig, folder: Path, settings: Sequence[str]) -> TrainConfig:
    """Return the configuration of a CTC head on the encoder that a demo trains, on the same speech and machines.

    ``settings`` are ``KEY=VALUE`` over those of ctc.yaml and over what the demo's own run has.
    """
    same = config.model_dump(mode="json", include={"base", "language", "seed", "workers"})
    told = [f"{key}={json.dumps(value)}" for key, value in same.items()]
    return resolve(TrainConfig, CTC_CONFIG, [*_place(folder, f"{folder.name}-ctc"), *told, *settings]).value


def _place(folder: Path, name: str) -> list[str]:
    return [f"data.train={folder / 'data' / 'train.jsonl'}", f"run.folder={folder.parent}", f"run.name={name}"]


def run_folder(runs: Path) -> Path:
    """Return the newest demo run that did not finish, or the folder of a new one."""
    numbers = [int(path.name.removeprefix("demo-")) for path in runs.glob("demo-*") if path.name[5:].isdecimal()]
    newest = max(numbers, default=0)
    unfinished = newest and not (runs / f"demo-{newest}" / _RESULT).is_file()
    return runs / f"demo-{newest if unfinished else newest + 1}"
