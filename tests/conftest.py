"""Real parts for every test: a checkpoint, recorded speech and a Ray cluster, each made once a session."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from asr.artifact import load_model
from asr.cache import cache_root
from asr.manifest import read_manifest
from asr.model import SpeechModel
from asr.utterance import Utterance
from cluster.session import ray_session
from train.prepare import PrepareConfig, prepare
from train.prompts import fetch, utterances


@pytest.fixture(scope="session")
def tiny_en() -> SpeechModel:
    """Whisper tiny.en with its published weights. Shared: who trains it takes a copy of the network."""
    return load_model("builtin:tiny.en")


@pytest.fixture(scope="session")
def english_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """64 recorded telephone prompts of 1 to 6 s as FLAC files, with what is said in them and their durations."""
    good, _ = utterances("en", fetch("en", cache_root()))
    config = PrepareConfig(min_audio_s=1.0, max_audio_s=6.0, min_test_clips=1, test_share=0.01, validation_share=0.0)
    prepared = prepare(good[:150], tmp_path_factory.mktemp("english"), config)
    clips = [clip for name in ("train", "test") for clip in read_manifest(prepared.manifests[name])]
    return sorted(clips, key=lambda clip: clip.id)[:64]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray cluster for the whole session. Tests that start and stop their own do so in a subprocess."""
    with warnings.catch_warnings(), ray_session():
        yield
