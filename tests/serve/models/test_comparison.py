from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import WhisperFeatureExtractor

from asr.audio.decode import AudioLimits
from asr.audio.features import LogMel
from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from asr.scoring.edits import EditCounts
from asr.scoring.error_rates import Score
from asr.transcript import DecodingRequest, Transcript
from serve.models.comparison import AT_ONCE, Comparison, compare
from serve.models.version import Described, Version
from tests.serve.fakes import voice

pytestmark = pytest.mark.medium

INFO = ModelInfo("m", frozenset({"en", "it"}), None, "full", LogMel(WhisperFeatureExtractor().mel_filters))
GOOD, BAD = (Described(Version(name, "f"), INFO, 1) for name in ("good", "bad"))


class Fleet:
    """Replicas of which ``good`` hears the number of seconds, and ``bad`` something else."""

    def __init__(self) -> None:
        self.present = self.most = 0
        self.languages: list[str | None] = []

    async def transcribe(
        self, clip: DecodingRequest, turns: str, position: int, within_s: float, version: Version
    ) -> Transcript:
        self.present += 1
        self.most = max(self.most, self.present)
        self.languages.append(clip.language)
        await asyncio.sleep(0.01)
        self.present -= 1
        return Transcript(
            f"seconds {round(clip.features.shape[1] / 100)}" if version.artifact == "good" else "no", (), "en"
        )


def manifest(folder: Path, count: int, **changes: Any) -> str:
    (folder / "clip.flac").write_bytes(voice(4.0))
    row = {"audio_filepath": "clip.flac", "text": "Seconds 4.", "lang": "en"} | changes
    rows = [json.dumps(row | {"id": str(number)}) for number in range(count)]
    (folder / "set.jsonl").write_text("\n".join(rows))
    return str(folder / "set.jsonl")


def trial(replica_group: Any, place: str) -> Comparison:
    with ThreadPoolExecutor(1) as threads:
        return asyncio.run(compare(replica_group, place, BAD, GOOD, threads, AudioLimits()))


def test_both_hear_the_same_clips_few_at_once(tmp_path: Path) -> None:
    replica_group = Fleet()
    found = trial(replica_group, manifest(tmp_path, 12))
    assert (found.clips, found.candidate.rate, found.stable.rate) == (12, 1.0, 0.0)
    assert replica_group.most <= AT_ONCE and replica_group.languages == ["en"] * 24
    assert str(found).startswith("WER on 12 clips: candidate 100.0%")


def test_a_language_that_the_model_does_not_know_is_detected(tmp_path: Path) -> None:
    replica_group = Fleet()
    trial(replica_group, manifest(tmp_path, 1, lang="zh"))
    assert replica_group.languages == [None, None]


def test_a_clip_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    place = manifest(tmp_path, 1)
    (tmp_path / "clip.flac").write_bytes(b"no sound")
    with pytest.raises(UserError, match="the clip '0' cannot be used: not_audio"):
        trial(Fleet(), place)


def rate(share: float) -> Score:
    wrong = round(share * 100)
    counts = EditCounts(hits=100 - wrong, substitutions=wrong)
    return Score(counts, 0.0, 1.0)


@pytest.mark.parametrize(
    ("candidate", "stable", "max_wer", "margin", "fault"),
    [
        (0.10, 0.12, None, 0.01, ""),
        (0.13, 0.12, None, 0.02, ""),
        (0.14, 0.12, None, 0.01, "WER of 14.0% is more than 1.0% worse than the 12.0%"),
        (0.10, 0.12, 0.05, 0.01, "WER of 10.0% is over the 5.0%"),
        (0.05, 0.12, 0.05, 0.01, ""),
    ],
)
def test_what_is_worse_than_allowed_is_named(
    candidate: float, stable: float, max_wer: float | None, margin: float, fault: str
) -> None:
    told = Comparison(100, rate(candidate), rate(stable)).fault(max_wer, margin)
    assert (fault in told) if fault else not told
