"""The endpoint against faster-whisper, a plain server around it, and the transformers pipeline: the same clips.

    .venv/bin/python -m benchmarks.serving [MODEL] [--rounds 2] [--save benchmarks/results/serving.json]

All sides decode greedily, with the same weights (MODEL, exported to int8 or merged) and the same number of threads, in
processes of their own that take turns, and stand still while it is another's: short clips (the test split of Italian
prompts) at 1, 8 and 32 clients, and one long file. ``saturating`` clients ask without pause, a closed loop that gives
the throughput; ``speaking`` ones send each clip when it has been spoken, an open loop whose latencies count from that
moment. What Serve adds is measured clip by clip, ``alternating`` between the endpoint and its engine. The last line of
stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from asr.models.export import export, exported
from asr.parsed import JsonObject
from benchmarks.provenance import provenance, tell
from benchmarks.serving import load
from benchmarks.serving.figures import Load, Turn, compare, table
from benchmarks.serving.host import DIRECT, LANGUAGE, LIBRARY, OURS, PIPELINE, SERVER
from benchmarks.serving.side import Side, started
from benchmarks.serving.speech import Spoken, short_and_long

DEMO = Path("runs/demo-1/artifact")
LEVELS = (1, 8, 32)
EVERY_ROUND = (OURS[0], LIBRARY, SERVER, DIRECT)
REPEATS = 3  # of each clip, to find its best time
# Several times as slow, and no figure of the JSON line's depends on them: short clips only, at all levels but the last.
ONCE = (OURS[1], PIPELINE)
VERSIONS = ("whisperfleet", "ray", "ctranslate2", "faster-whisper", "transformers", "torch", "fastapi", "uvicorn")


def main() -> None:
    """Print the table, then the JSON line."""
    asked = _options().parse_args()
    with TemporaryDirectory(prefix="wf-") as folder:  # short, as paths of Ray's sockets may have 107 characters
        result = run(asked, Path(folder))
    Console(width=160).print(table(result))
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser()
    options.add_argument("model", nargs="?", default=str(DEMO) if DEMO.is_dir() else "builtin:base")
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--clips", type=int, default=64, help="of the test split")
    options.add_argument("--long-s", type=float, default=1200.0, help="length of the long file")
    options.add_argument("--save", type=Path)
    return options


def run(asked: argparse.Namespace, folder: Path) -> JsonObject:
    """Return all figures; ``folder`` is for everything that is written on the way."""
    tell("preparing speech and models")
    short, long = short_and_long(LANGUAGE, folder, asked.clips, asked.long_s)
    export(asked.model, folder / "merged", "transformers")
    int8 = str(exported(asked.model, "int8"))
    models = dict.fromkeys((*OURS, DIRECT), asked.model) | {LIBRARY: int8, SERVER: int8}
    models[PIPELINE] = str(folder / "merged")
    with ExitStack() as stack:
        sides = [stack.enter_context(started(name, models[name], folder)) for name in (*EVERY_ROUND, *ONCE)]
        turns = take_turns(sides, short, long, asked.rounds)
        peaks = {side.name: side.peak_mb for side in sides}
    lengths = [clip.duration_s for clip in short]
    references: dict[Load, Sequence[str]] = {"saturating": [clip.text for clip in short], "long": [long.text]}
    return {
        "benchmark": "serving",
        **compare(turns, LEVELS, references, LANGUAGE),
        "peak_memory_mb": round(peaks[OURS[0]]),
        "peak_memory_mb_by_side": {name: round(peak) for name, peak in peaks.items()},
        "model": asked.model,
        "language": LANGUAGE,
        "rounds": asked.rounds,
        "clips": len(short),
        "clip_s": round(sum(lengths) / len(lengths), 2),
        "long_s": round(long.duration_s, 1),
        **provenance(VERSIONS),
    }


def take_turns(sides: Sequence[Side], short: Sequence[Spoken], long: Spoken, rounds: int) -> list[Turn]:
    """Have the sides transcribe one after the other, in every other round the other way round."""
    for side in sides:
        take_turn(side, "saturating", 1, short[:2])  # the first request finds cold caches
    named = {side.name: side for side in sides}
    turns = []
    for number in range(rounds):
        present = [side for side in sides if number == 0 or side.name in EVERY_ROUND][:: -1 if number % 2 else 1]
        for clients in LEVELS:
            for side in present:
                if side.name != DIRECT and (side.name not in ONCE or clients < LEVELS[-1]):
                    turns.append(take_turn(side, "saturating", clients, short))
                if number == 0 and side.url and side.name in EVERY_ROUND:  # takes as long as the clips
                    turns.append(take_turn(side, "speaking", clients, short))
        turns += alternating(named[OURS[0]], named[DIRECT], short)
        turns += [take_turn(side, "long", 1, [long]) for side in present if side.name not in (DIRECT, *ONCE)]
    return turns


def take_turn(side: Side, kind: Load, clients: int, speech: Sequence[Spoken]) -> Turn:
    """Have a side transcribe files, and count what it does not answer. Raises RuntimeError where that is all."""
    with side.turn():
        if side.url:
            drive = load.speaking if kind == "speaking" else load.saturating
            heard = drive(side.url, speech, clients, LANGUAGE)
        else:
            answer = side.ask([spoken.path for spoken in speech], clients)
            heard = load.Heard(**{name: answer[name] for name in ("seconds", "texts", "latencies_s")})
    if len(heard.errors) == len(speech):
        raise RuntimeError(f"{side.name} answers nothing: {heard.errors[0]}")
    answered = [number for number in range(len(speech)) if number not in heard.errors]
    audio_s = sum(speech[number].duration_s for number in answered)
    tell(f"{side.name}: {kind}, {clients} clients, {audio_s / heard.seconds:.2f} audio s/s, {len(heard.errors)} errors")
    latencies_s = [heard.latencies_s[number] for number in answered]
    return Turn(side.name, kind, clients, audio_s, heard.seconds, heard.texts, latencies_s, len(heard.errors))


def alternating(endpoint: Side, direct: Side, short: Sequence[Spoken]) -> list[Turn]:
    """Ask each clip of the endpoint and of the engine alone, at once one after the other, several times."""
    latencies_s: dict[str, list[float]] = {endpoint.name: [], direct.name: []}
    asked = [clip for clip in short for _ in range(REPEATS)]

    async def ask_all() -> None:
        async with load.open_session() as session:  # one connection, as a client keeps it
            for clip in asked:
                begun = time.perf_counter()
                await load.ask(session, str(endpoint.url), clip, LANGUAGE)
                latencies_s[endpoint.name].append(time.perf_counter() - begun)
                latencies_s[direct.name] += direct.ask([clip.path], 1)["latencies_s"]

    with endpoint.turn(), direct.turn():
        asyncio.run(ask_all())
    audio_s = sum(clip.duration_s for clip in short)
    return [
        Turn(name, "alternating", 1, audio_s, sum(own[repeat::REPEATS]), (), own[repeat::REPEATS])
        for name, own in latencies_s.items()
        for repeat in range(REPEATS)
    ]


if __name__ == "__main__":
    main()
