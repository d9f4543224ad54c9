"""What tests of several folders share: one Ray session, one real checkpoint, real speech."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from pyarrow.fs import S3FileSystem

from asr.audio import sandbox
from asr.audio.decode import SAMPLE_RATE, decode, encode_flac
from asr.audio.sandbox import Child
from asr.audio.sandbox_task import Task
from asr.data.sources.prompts import fetch, utterances
from asr.imports import leave_out
from asr.io.cache import cache_root
from asr.models.artifact import load_model
from asr.models.builtin.convert import convert
from asr.models.checkpoint import find_checkpoint
from asr.models.family import SpeechModel
from asr.utterance import Utterance
from cluster.session import ray_session
from tests.asr.tiny_whisper import ct2_variables, random_whisper, write_ct2_folder
from tests.speed import pytest_collection, pytest_collection_modifyitems, pytest_runtest_call
from tests.train.checks.doctored import edit, tiny_checkpoint
from tests.warm.processes import warm_ray

__all__ = ["pytest_collection", "pytest_collection_modifyitems", "pytest_runtest_call"]

# The server takes any key, but its clients look for one, and ask the cloud's own address where there is none.
os.environ |= {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}
# Ray Train takes note of one checkpoint a look, and small runs make several in a second: each would cost two more.
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
# Ray makes its workers give way to every other process. Here that is the tests beside these: they would wait for all.
os.environ.setdefault("RAY_worker_niceness", "0")

# Before folders' own conftests import PEFT: as where QLoRA is not installed, which is sooner. Where it is, a process of
# its own trains with it (tests/train/trainer/test_adapter.py), and so does every command that a test runs.
leave_out("bitsandbytes")

# Examples of a property: a few in `make test`, `make test-long` asks for more by HYPOTHESIS_PROFILE.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("long", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell that starts the suite in its background has it ignore Ctrl-C, and every command that tests press it for, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def single_threaded() -> None:
    """On a busy machine torch's threads wait for each other, and what loads an engine in a test sets their number.

    All tests after it had two: they took up to three times the CPU time.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray for the whole test run."""
    with warm_ray(), ray_session():
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Where an S3 server on loopback listens."""
    from moto.server import ThreadedMotoServer  # a second of import that few tests need

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """The address of a bucket on it, whose query tells every process, Ray's too, where that is.

    Made for each test: whoever pretends to be all of AWS in this process begins by forgetting what is there.
    """
    S3FileSystem(endpoint_override=s3_server, scheme="http", allow_bucket_creation=True).create_dir("speech")
    return f"s3://speech?endpoint_override={s3_server}&scheme=http"


@pytest.fixture(scope="session")
def tiny_en_name() -> str:
    """The name of a real English checkpoint. Where it cannot be had the test fails: a skip would look like a pass."""
    name = os.environ.get("WHISPERFLEET_TEST_MODEL") or "builtin:tiny.en"
    find_checkpoint(name)
    return name


@pytest.fixture(scope="session")
def tiny_en(tiny_en_name: str) -> SpeechModel:
    """The same checkpoint, loaded."""
    return load_model(tiny_en_name)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of a few random weights, for what the words do not matter for: it says a few tokens."""
    base = tiny_checkpoint(tmp_path_factory.mktemp("small") / "base", "builtin:tiny.en")
    edit(base / "generation_config.json", lambda told: told.update(max_length=12))
    return str(base)


@pytest.fixture(scope="session")
def small_base(small_checkpoint: str) -> str:
    """The same, for tests that load it: they are marked."""
    return small_checkpoint


@pytest.fixture(scope="session")
def english_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Two dozen telephone prompts of ten to twenty words with their transcripts, as FLAC files of known length."""
    folder = tmp_path_factory.mktemp("english")
    good, _ = utterances("en", fetch("en", cache_root()))
    sentences = [clip for clip in good if 10 <= len(clip.text.split()) <= 20 and not any(map(str.isdigit, clip.text))]
    return [_as_flac(clip, folder) for clip in sentences[:: len(sentences) // 24][:24]]


@pytest.fixture
def crashing(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file that ends the process which decodes it: here with a codec for it, in the real child."""
    monkeypatch.setattr(sandbox, "Child", partial(sandbox.Child, "tests.asr.hostile"))
    monkeypatch.setattr(sandbox, "_own", threading.local())
    return encode_flac(np.full(SAMPLE_RATE, 0.1, np.float32)) + b"ATTACK abort "


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many things were asked for in each request to the sandbox, from whichever thread."""
    asked: list[int] = []
    each = Child.each

    def counted(child: Child, tasks: Sequence[Task]) -> list[Any]:
        asked.append(len(tasks))
        return each(child, tasks)

    monkeypatch.setattr(Child, "each", counted)
    return asked


def _as_flac(clip: Utterance, folder: Path) -> Utterance:
    waveform = decode(str(clip.audio), container="g722")
    path = folder / f"{Path(str(clip.audio)).stem}.flac"
    path.write_bytes(encode_flac(waveform))
    return replace(clip, audio=str(path), duration_s=len(waveform) / SAMPLE_RATE)


@pytest.fixture(scope="session")
def ct2_original(tmp_path_factory: pytest.TempPathFactory, tiny_en_name: str) -> Path:
    """An English checkpoint of random float32 weights, not to be changed."""
    settings = {"alignment_heads": [[0, 1]], "suppress_ids": [1, 2], "suppress_ids_begin": [220, 50256]}
    tokenizer = find_checkpoint(tiny_en_name).folder / "tokenizer.json"
    folder = tmp_path_factory.mktemp("random") / "ct2"
    return write_ct2_folder(folder, tokenizer, json.dumps(settings), ct2_variables(random_whisper()))


@pytest.fixture(scope="session")
def random_checkpoint(ct2_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in transformers' layout, not to be changed."""
    folder = tmp_path_factory.mktemp("random") / "transformers"
    convert(ct2_original, folder)
    return folder
