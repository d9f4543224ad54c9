"""The options of `check`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asr.config import resolve
from train.checks.check import STEPS, Result
from train.checks.check import check as check_config
from train.config import TrainConfig

_COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED, "skipped": None}


def check(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the file's.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster (auto, host:port); default: a local one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the steps on stdout.")] = False,
) -> None:
    resolved = resolve(TrainConfig, config, settings or []).value
    results = []
    for result in check_config(resolved, address, None if as_json else _announce):
        results.append(result)
        if not as_json:
            _print(result)
    counts = Counter(result.outcome.state for result in results)
    if as_json:
        print(json.dumps([_row(number, result) for number, result in enumerate(results, start=1)]))
    else:
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts["failed"]:
        raise typer.Exit(2)


def _announce(number: int, name: str) -> None:
    print(f"[{number:>2}/{len(STEPS)}] {name} ... ", end="", flush=True)


def _print(result: Result) -> None:
    outcome = result.outcome
    typer.secho(outcome.state, fg=_COLOURS[outcome.state], nl=False)
    print(f" ({outcome.detail})" if outcome.state in ("ok", "skipped") else f": {outcome.detail}")
    if outcome.hint:
        print(f"        {outcome.hint}")


def _row(number: int, result: Result) -> dict[str, object]:
    return {"step": number, "name": result.name, "seconds": round(result.seconds, 3), **asdict(result.outcome)}
