"""Cost of the decoding sandbox in training: micro-batches prepared with it and without it, alternating, in one run.

    .venv/bin/python -m benchmarks.sandbox [--epochs 10] [--rounds 5] [--save benchmarks/results/sandbox.json]

Italian prompts as `data prepare` leaves them (FLAC), in the micro-batches of a run: decoded, log-mel, labels. As Ray
Data does it, one process more than there are cores; only the place of decoding differs: the process's own confined
child, or the process itself, as it was before. Quote the median ratio: of time on a machine that does nothing else, of
processor time (children's too) on one that does. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import AudioLimits, decode
from asr.audio.sandbox import decode_utterances, own
from asr.data.sources import SourceConfig
from asr.errors import DataError
from asr.parsed import JsonObject
from asr.utterance import Utterance
from benchmarks.preprocess import PREPROCESS, PROMPTS, corpus_of, epochs_of
from train.data.prepare import PrepareConfig, prepare
from train.data.splits import rows_of
from train.dataloader import preprocess
from train.examples import MicroBatchSpec


def main() -> None:
    """Print the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("--epochs", type=int, default=10, help="passes over the clips in a round")
    options.add_argument("--rounds", type=int, default=5, help="of either side, taking turns")
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    result = {"benchmark": "sandbox", **measure(asked.epochs, asked.rounds)}
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def measure(epochs: int = 10, rounds: int = 5) -> JsonObject:
    """Return clips per second and core of either side, and ``sandbox_speed_``: the sandbox's over the other's."""
    cores = len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started from here on
    with TemporaryDirectory() as folder:
        manifest = prepare(rows_of(SourceConfig(source=PROMPTS)), Path(folder), PrepareConfig()).manifests["train"]
        specs = [spec for spec in epochs_of(corpus_of(manifest)) if spec.epoch == 0]
        clips = sum(len(example.utterances) for spec in specs for example in spec.examples)
        with ProcessPoolExecutor(cores + 1, get_context("spawn")) as pool:
            seconds: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for number in range(rounds + 1):  # the first starts processes and children
                for confined in (True, False) if number % 2 else (False, True):
                    seconds[confined].append(_timed(pool, specs * (epochs if number else 1), cores + 1, confined))
    figures: JsonObject = {}
    for at, kind in enumerate(("time", "cpu")):
        inside, outside = ([each[at] for each in seconds[confined][1:]] for confined in (True, False))
        speeds = [without / within for within, without in zip(inside, outside, strict=True)]
        shared = cores if kind == "time" else 1
        figures |= {
            f"sandbox_speed_{kind}": round(statistics.median(speeds), 3),
            f"sandbox_speeds_{kind}": [round(speed, 3) for speed in speeds],
            f"sandboxed_clips_per_s_core_{kind}": round(clips * epochs / statistics.median(inside) / shared, 1),
            f"unconfined_clips_per_s_core_{kind}": round(clips * epochs / statistics.median(outside) / shared, 1),
        }
    return {
        **figures,
        "clips": clips * epochs * rounds,
        "clips_a_batch": round(clips / len(specs), 1),
        "cores": cores,
    }


def _timed(
    pool: ProcessPoolExecutor, specs: Sequence[MicroBatchSpec], processes: int, confined: bool
) -> tuple[float, float]:
    """Return seconds of time and of processors."""
    started = time.perf_counter()
    cpu_s = pool.map(_loop, [specs[number::processes] for number in range(processes)], [confined] * processes)
    whole_s = sum(cpu_s)
    return time.perf_counter() - started, whole_s


def _loop(specs: Sequence[MicroBatchSpec], confined: bool) -> float:
    with patch.object(preprocess, "decode_utterances", decode_utterances if confined else _here):
        before = _cpu_s()
        assert not any(row.faults for row in preprocess.prepare_all(specs, PREPROCESS))
        return _cpu_s() - before


def _cpu_s() -> float:
    """Processor seconds of this process, of what forks its children, and of those that have ended (proc(5): stat)."""
    fields = Path(f"/proc/{own().forker}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return time.process_time() + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _here(utterances: Sequence[Utterance], limits: AudioLimits) -> Iterator[NDArray[np.float32] | DataError]:
    return (decode(each.audio, start_s=each.start_s, end_s=each.end_s, limits=limits) for each in utterances)


if __name__ == "__main__":
    main()
