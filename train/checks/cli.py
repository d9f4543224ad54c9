"""The options of ``check``. The steps are imported once the options are read: with them come torch and Ray."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.config import resolve
from asr.errors import UserError
from train.config import TrainConfig

if TYPE_CHECKING:
    from train.checks.check import Result

_COLOURS = {"ok": typer.colors.GREEN, "warning": typer.colors.YELLOW, "failed": typer.colors.RED, "skipped": None}


def check(
    config: Annotated[Path | None, typer.Argument(help="YAML file; see configs/.")] = None,
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the file's.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster (auto, host:port); default: a local one.")] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="Look at the cluster's nodes too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the steps on stdout.")] = False,
) -> None:
    if config is None and not cluster:
        raise UserError("what shall be checked?", "whisperfleet check CONFIG, whisperfleet check --cluster, or both")
    if cluster and not address and os.environ.get("RAY_ADDRESS", "").startswith("http"):
        raise UserError(
            "RAY_ADDRESS is a dashboard, and nodes are looked at from within",
            "whisperfleet submit --follow -- check --cluster",
        )
    resolved = resolve(TrainConfig, config, settings or []).value if config else None
    from train.checks.check import NODE_STEPS, STEPS, check_nodes
    from train.checks.check import check as check_config

    steps = [*(STEPS if config else ()), *(NODE_STEPS if cluster else ())]
    results: list[Result] = []

    def announce(_: int, name: str) -> None:
        if not as_json:
            print(f"[{len(results) + 1:>2}/{len(steps)}] {name} ... ", end="", flush=True)

    parts = [check_config(resolved, address, announce)] if resolved else []
    parts += [check_nodes(resolved, address, announce)] if cluster else []
    for result in chain.from_iterable(parts):
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


def _print(result: Result) -> None:
    outcome = result.outcome
    typer.secho(outcome.state, fg=_COLOURS[outcome.state], nl=False)
    print(f" ({outcome.detail})" if outcome.state in ("ok", "skipped") else f": {outcome.detail}")
    if outcome.hint:
        print(f"        {outcome.hint}")


def _row(number: int, result: Result) -> dict[str, object]:
    return {"step": number, "name": result.name, "seconds": round(result.seconds, 3), **asdict(result.outcome)}
