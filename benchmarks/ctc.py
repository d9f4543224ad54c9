"""CTC beside Seq2Seq on one test split: error rates, speed and word times of two artifacts with the same encoder.

    .venv/bin/python -m benchmarks.ctc runs/demo-1-ctc/artifact runs/demo-1/artifact \
        --test runs/demo-1/data/test.jsonl [--rounds 3] [--save benchmarks/results/ctc.json]

Each round transcribes all clips with the CTC model by the sound alone (greedy), with it and its language model (beam),
with the Seq2Seq model at the clips' own length, and, on a CPU, with the CTC model in ONNX Runtime in int8, one after
the other; features are made each time, audio is decoded once. Speeds are medians of the rounds. Word times: clips are
joined with pauses, and the first and the last word of each are held against the place where its sound begins and ends.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from asr.audio.decode import SAMPLE_RATE
from asr.audio.decode import decode as decode_audio
from asr.data.manifest import read_manifest
from asr.models.artifact import load_model
from asr.models.ctc.onnx_backend import OnnxModel
from asr.models.family import SpeechModel, best_device
from asr.parsed import JsonObject
from asr.scoring.error_rates import Score
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.transcript import DecodingRequest, Transcript
from asr.utterance import Utterance
from benchmarks.provenance import provenance, tell

PAUSE_S = 0.6
JOINED = 3  # clips in one, of those that last no longer than LONGEST_S
LONGEST_S = 3.0
SOUND = 0.03  # of a clip's loudest 10 ms: what is softer is no sound


def main() -> None:
    """Print the table, then the JSON line."""
    options = argparse.ArgumentParser()
    options.add_argument("ctc")
    options.add_argument("seq2seq")
    options.add_argument("--test", required=True)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--save", type=Path)
    asked = options.parse_args()
    clips = read_manifest(asked.test)
    waves = [decode_audio(str(clip.audio)) for clip in clips]
    spoken, device = load_model(asked.ctc, best_device()), best_device()
    greedy, seq2seq = spoken.family.without_language_model(spoken), load_model(asked.seq2seq, device)
    models: dict[str, SpeechModel | OnnxModel] = {"greedy": greedy, "beam": spoken, "seq2seq": seq2seq}
    if spoken.family.runs_fast(device):
        fast = OnnxModel.load(asked.ctc)
        models["onnx greedy"] = replace(fast, processor=replace(fast.processor, is_greedy=True))
        models["onnx beam"] = fast
    seconds: dict[str, list[float]] = {way: [] for way in models}
    scored: dict[str, Evaluation] = {}
    for number in range(asked.rounds):
        for way in models:
            started = time.perf_counter()
            found = transcribed(models[way], waves)
            seconds[way].append(time.perf_counter() - started)
            scored[way] = evaluation(models[way], clips, waves, found)
        tell(f"round {number + 1}: " + ", ".join(f"{way} {seconds[way][-1]:.1f} s" for way in models))
    errors = {"greedy": word_time_errors_ms(greedy, waves), "seq2seq": word_time_errors_ms(seq2seq, waves)}
    result = {
        "benchmark": "ctc",
        "device": device,
        "clips": len(clips),
        "audio_s": round(sum(map(len, waves)) / SAMPLE_RATE, 1),
        "cer": rate(scored["greedy"].cer),
        "wer_greedy": rate(scored["greedy"].wer),
        "wer_beam": rate(scored["beam"].wer),
        "wer_seq2seq": rate(scored["seq2seq"].wer),
        **{f"wer_{way.replace(' ', '_')}": rate(scored[way].wer) for way in scored if way.startswith("onnx")},
        "seconds": {way: round(median(seconds[way]), 2) for way in models},
        "speed_ratio": round(median(seconds["seq2seq"]) / median(seconds["greedy"]), 2),
        "speed_ratio_beam": round(median(seconds["seq2seq"]) / median(seconds["beam"]), 2),
        "word_time_error_ms": round(median(errors["greedy"]), 1),
        "word_time_error_ms_seq2seq": round(median(errors["seq2seq"]), 1),
        **provenance(("torch", "transformers", "onnxruntime", "numpy")),
    }
    show(scored, seconds, result)
    if asked.save:
        asked.save.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def transcribed(
    model: SpeechModel | OnnxModel, waves: Sequence[NDArray[np.float32]], words: bool = False
) -> list[Transcript]:
    """Return what a model hears in waveforms at 16 kHz."""
    clips = [DecodingRequest(model.features(wave), model.language, words=words) for wave in waves]
    if isinstance(model, OnnxModel):
        return model.transcribe(clips, "short")
    return model.transcribe(clips, "short", 16)


def evaluation(
    model: SpeechModel | OnnxModel,
    clips: Sequence[Utterance],
    waves: Sequence[NDArray[np.float32]],
    found: Sequence[Transcript],
) -> Evaluation:
    """Return the error rates of transcripts."""
    results = [
        UtteranceResult(clip.id, clip.text, transcript.text, len(wave) / SAMPLE_RATE)
        for clip, wave, transcript in zip(clips, waves, found, strict=True)
    ]
    return Evaluation("", model.language, "short", results, 0.0)


def rate(score: Score) -> float:
    """Return an error rate for machines."""
    return round(score.rate, 4)


def word_time_errors_ms(model: SpeechModel, waves: Sequence[NDArray[np.float32]]) -> list[float]:
    """Return how far the first word's begin and the last word's end of clips are from their sound's, in milliseconds.

    Clips are joined with pauses. Those in which a model hears another number of words than in each clip alone are left
    out: it is not known then which words they are.
    """
    short = [wave for wave in waves if len(wave) <= LONGEST_S * SAMPLE_RATE]
    alone = [len(one.text.split()) for one in transcribed(model, short)]
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE), np.float32)
    groups = [range(first, first + JOINED) for first in range(0, len(short) - JOINED + 1, JOINED)]
    joined = [np.concatenate([part for i in group for part in (short[i], pause)]) for group in groups]
    errors = []
    for group, transcript in zip(groups, transcribed(model, joined, words=True), strict=True):
        if len(transcript.words) != sum(alone[i] for i in group) or not all(alone[i] for i in group):
            continue
        at_s, first = 0.0, 0
        for i in group:
            begin_s, end_s = sounding_s(short[i])
            words = transcript.words[first : first + alone[i]]
            errors += [abs(words[0].start_s - at_s - begin_s), abs(words[-1].end_s - at_s - end_s)]
            at_s += (len(short[i]) + len(pause)) / SAMPLE_RATE
            first += alone[i]
    return [1000 * error for error in errors]


def sounding_s(wave: NDArray[np.float32]) -> tuple[float, float]:
    """Return where the sound of a clip begins and ends, by the loudness of each 10 ms."""
    step = SAMPLE_RATE // 100
    frames = wave[: len(wave) // step * step].reshape(-1, step)
    loud = np.flatnonzero(np.sqrt((frames**2).mean(1)) > SOUND * np.sqrt((frames**2).mean(1)).max())
    return loud[0] / 100, (loud[-1] + 1) / 100


def show(scored: dict[str, Evaluation], seconds: dict[str, list[float]], result: JsonObject) -> None:
    """Print the figures for people."""
    table = Table("", "WER", "WER, orthographic", "CER", "s", "audio s/s")
    for way, one in scored.items():
        took = median(seconds[way])
        rates = (f"{100 * score.rate:.1f} %" for score in (one.wer, one.wer_ortho, one.cer))
        table.add_row(way, *rates, f"{took:.1f}", f"{result['audio_s'] / took:.1f}")
    Console(highlight=False).print(table)
    print(f"speed, Seq2Seq to greedy CTC: {result['speed_ratio']} times; with its language model: ", end="")
    print(f"{result['speed_ratio_beam']} times")
    print(
        f"word times are off by {result['word_time_error_ms']} ms (CTC) and {result['word_time_error_ms_seq2seq']} ms "
        "(Seq2Seq), median"
    )


if __name__ == "__main__":
    main()
