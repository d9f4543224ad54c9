"""Real clips, and a way to put a folder on either kind of storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import datasets
import pytest

from asr.io import storage
from asr.utterance import Utterance


@pytest.fixture(scope="session")
def clips(english_clips: list[Utterance]) -> list[Utterance]:
    """Five real clips with their transcripts."""
    return english_clips[:5]


@pytest.fixture
def s3_put(s3: str) -> Callable[[Path], str]:
    """Copy a folder into the bucket under a name of its own; returns its address."""

    def put(folder: Path) -> str:
        address = storage.join(s3, f"data {uuid4().hex}", folder.name)  # keys may hold spaces
        for path in folder.rglob("*"):
            if path.is_file():
                storage.write_bytes(storage.join(address, path.relative_to(folder).as_posix()), path.read_bytes())
        return address

    return put


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Where a source lies: the local folder as it was written, or the same in the bucket."""
    if request.param == "local":
        return str
    put: Callable[[Path], str] = request.getfixturevalue("s3_put")
    return put


@pytest.fixture(scope="module")
def no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Offline, quiet, and with a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()
