"""Compares two versions by word error rate on the same clips, transcribed by the replicas as any request is."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from asr.audio.decode import AudioLimits
from asr.audio.sandbox import decode_utterance
from asr.data.manifest import read_manifest
from asr.errors import DataError, UserError
from asr.inference.model_info import ModelInfo
from asr.inference.windows import windows
from asr.scoring.error_rates import Score, score
from asr.transcript import DecodingRequest, FeatureArray
from asr.utterance import Utterance
from serve.models.replica_group import ReplicaGroup
from serve.models.version import Described

AT_ONCE = 8  # clips under way: enough for batches, few enough to leave others their turns
WITHIN_S = 600.0


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison: normalised word error rates over the same clips. A lower one is better."""

    clips: int
    candidate: Score
    stable: Score

    def fault(self, max_wer: float | None, margin: float) -> str:
        """Return why the candidate should not be promoted, or nothing. Rates are shares: 0.1 is 10 %."""
        wer, before = self.candidate.rate, self.stable.rate
        if max_wer is not None and wer > max_wer:
            return f"its WER of {wer:.1%} is over the {max_wer:.1%} that was allowed"
        if wer > before + margin:
            return f"its WER of {wer:.1%} is more than {margin:.1%} worse than the {before:.1%} of the stable version"
        return ""

    def __str__(self) -> str:
        rates = [f"{one.rate:.1%} ({one.low:.1%} to {one.high:.1%})" for one in (self.candidate, self.stable)]
        return f"WER on {self.clips} clips: candidate {rates[0]}, stable {rates[1]}"


async def compare(
    replica_group: ReplicaGroup,
    manifest: str,
    candidate: Described,
    stable: Described,
    threads: Executor,
    limits: AudioLimits,
) -> Comparison:
    """Have both versions transcribe the clips of a manifest, which the ingress reads.

    Raises UserError for a manifest or a clip that cannot be used, and what decoding raises.
    """
    loop = asyncio.get_running_loop()
    clips = await loop.run_in_executor(threads, read_manifest, manifest)
    transcribed = [await _transcribed(replica_group, clips, one, threads, limits) for one in (candidate, stable)]
    references = [clip.text for clip in clips]
    language = candidate.info.language or clips[0].language
    rates = [
        await loop.run_in_executor(threads, score, references, texts, "normalised", language) for texts in transcribed
    ]
    return Comparison(len(clips), *rates)


async def _transcribed(
    replica_group: ReplicaGroup, clips: Sequence[Utterance], model: Described, threads: Executor, limits: AudioLimits
) -> list[str]:
    turns = f"trial/{uuid.uuid4().hex}"
    places = asyncio.Semaphore(AT_ONCE)
    deadline = time.monotonic() + WITHIN_S

    async def text(number: int, clip: Utterance) -> str:
        async with places:
            loop = asyncio.get_running_loop()
            parts = await loop.run_in_executor(threads, _features, clip, model.info, limits)
            known = model.info.languages
            language = clip.language if not known or clip.language in known else model.info.language
            parts_said = [
                await replica_group.transcribe(
                    DecodingRequest(part, language), turns, number, deadline - time.monotonic(), model.version
                )
                for part in parts
            ]
        return " ".join(one.text for one in parts_said)

    tasks = [asyncio.create_task(text(number, clip)) for number, clip in enumerate(clips)]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _features(clip: Utterance, info: ModelInfo, limits: AudioLimits) -> list[FeatureArray]:
    """Return the log-mel features [M, T] of the windows of a clip in which somebody speaks."""
    try:
        waveform = decode_utterance(clip, limits)
    except DataError as error:
        raise UserError(f"the clip '{clip.id}' cannot be used: {error}") from None
    return [info.features(waveform[window.start : window.end]) for window in windows(waveform, longest_s=info.window_s)]
