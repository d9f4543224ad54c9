"""A real network and real speech, as training takes them."""

from __future__ import annotations

import pytest

from asr.data.manifest import read_manifest
from asr.data.sources.prompts import fetch, utterances
from asr.io.cache import cache_root
from asr.models.artifact import load_model
from asr.models.checkpoint import find_checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.utterance import Utterance
from tests.manifests import write_beside
from tests.train.runs import Finished, Runs, finish
from train.data.prepare import PrepareConfig, prepare


@pytest.fixture(scope="session")
def english_model() -> SpeechModel:
    """Whisper tiny.en with its published weights. Shared: whoever trains it takes a copy of the network."""
    return load_model("builtin:tiny.en")


@pytest.fixture(scope="session")
def small_model(small_base: str) -> SpeechModel:
    """The same, loaded. Shared: whoever trains it takes a copy of the network."""
    return load_checkpoint(find_checkpoint(small_base))


@pytest.fixture(scope="session")
def flac_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """24 telephone prompts of 1 to 6 s as ``whisperfleet data prepare`` leaves them: FLAC files with durations."""
    good, _ = utterances("en", fetch("en", cache_root()))
    config = PrepareConfig(min_audio_s=1.0, max_audio_s=6.0, min_test_clips=1, test_share=0.01, validation_share=0.0)
    prepared = prepare(good[:80], tmp_path_factory.mktemp("english"), config)
    clips = [clip for name in ("train", "test") for clip in read_manifest(prepared.manifests[name])]
    return sorted(clips, key=lambda clip: clip.id)[:24]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, flac_clips: list[Utterance], small_checkpoint: str) -> Runs:
    """Settings for small runs over one manifest."""
    folder = tmp_path_factory.mktemp("runs")
    return Runs(folder, folder / "train.jsonl", write_beside(folder / "train.jsonl", flac_clips), small_checkpoint)


@pytest.fixture(scope="session")
def whole(ray_cluster: None, runs: Runs) -> Finished:
    """A run that nobody interrupted."""
    return finish(runs.config("whole"))
