"""The options of ``plan``. What estimates is imported once they are read: with it come torch and transformers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from asr.config import resolve
from cluster.gpus import GpuFleet, parse
from train.config import TrainConfig

if TYPE_CHECKING:
    from train.capacity.cost import Cost
    from train.capacity.options import Option
    from train.capacity.setup import Setup


def plan(
    config: Annotated[Path, typer.Argument(help="YAML file; see configs/.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Over the file's.")] = None,
    gpus: Annotated[str, typer.Option(help="The devices: 4x24GB, 8xA100-80GB, 1xH100, 2xCPU-16GB.")] = "1x24GB",
    hours: Annotated[float | None, typer.Option(help="Audio to train on in all, over optim.max_steps.", min=0)] = None,
    price: Annotated[float | None, typer.Option(help="Of a device-hour, over workers.price_per_hour.", min=0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    resolved = resolve(TrainConfig, config, settings or []).value
    parse(gpus, lambda: 1.0)  # a mistake in it, before torch is imported
    from train.capacity.cost import planned
    from train.capacity.options import cheapest, options, setup_of
    from train.capacity.shapes import shape_of
    from train.capacity.speed import cpu_flops

    shape = shape_of(resolved.base, resolved.head, resolved.ctc)
    fleet = parse(gpus, cpu_flops)
    found = options(resolved, shape, fleet, hours)
    as_configured = cheapest(found, resolved.strategy)
    best = cheapest(found)
    if as_json:
        summary = {"base": resolved.base, "parameters": shape.parameters, "gpus": gpus, "device": asdict(fleet.device)}
        summary["options"] = [_row(option, planned(option, resolved, price)) for option in found]
        for name, option in (("cheapest", best), ("cheapest_as_configured", as_configured)):
            summary[name] = _row(option, planned(option, resolved, price)) if option else None
        print(json.dumps(summary))
        return
    print(_heading(resolved.base, setup_of(resolved, shape, fleet), fleet))
    Console(markup=False).print(_table(found, [planned(option, resolved, price) for option in found]))
    print(_advice("cheapest that fits", best))
    if best and best.setup.strategy != resolved.strategy:
        print(_advice(f"with strategy={resolved.strategy}, as configured", as_configured))


def _heading(base: str, setup: Setup, fleet: GpuFleet) -> str:
    batch = setup.batch
    taken = f" (taken for {fleet.assumed})" if fleet.assumed else ""
    return (
        f"{base}: {setup.shape.parameters / 1e6:.0f} M weights, {setup.precision}; micro-batches of {batch.clips} "
        f"clips of {batch.clip_s:g} s and {batch.tokens} tokens; {fleet.count} x {fleet.device.name}{taken}"
    )


def _table(found: Sequence[Option], costs: Sequence[Cost]) -> Table:
    from train.capacity.memory import GIB

    cost = "device hours" if costs[0].money is None else "cost"
    table = Table("strategy", "parallelism", "checkpointing", "peak, GiB", "host, GiB", "step, s", "hours", cost, "")
    for option, price in zip(found, costs, strict=True):
        setup, memory = option.setup, option.memory
        shared = setup.parallelism + (" + offload" if setup.offload == "cpu" else "")
        cells = [setup.strategy, shared, "yes" if setup.checkpointing else ""]
        cells += [f"{memory.peak / GIB:.1f}", f"{memory.host / GIB:.1f}" if memory.host else ""]
        if option.reason:
            table.add_row(*cells, "", "", "", option.reason, style="dim")
            continue
        spent = price.device_hours if price.money is None else price.money
        table.add_row(*cells, f"{option.time.total_s:.2f}", f"{option.hours:.2f}", f"{spent:.2f}", "")
    return table


def _advice(title: str, option: Option | None) -> str:
    if option is None:
        return f"{title}: nothing; lower batching.max_audio_s and batching.max_tokens, or take more memory"
    words = [f"{key}={json.dumps(value).strip(chr(34))}" for key, value in option.settings.items()]
    return f"{title}: {' '.join(words)}"


def _row(option: Option, cost: Cost) -> dict[str, object]:
    memory, time = option.memory, option.time
    return {
        **option.settings,
        "fits": not option.reason,
        "reason": option.reason,
        "peak_bytes": memory.peak,
        "memory": asdict(memory),
        "step_s": time.total_s,
        "time": asdict(time),
        "steps": option.steps,
        "hours": option.hours,
        **cost.summary(),
    }
