"""A wheel with all that it asks for, in an environment that had nothing, used from a folder that is not ours."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from asr.utterance import Utterance
from cluster.ports import free_ports
from tests.installed import Installed, install_whole
from tests.litter import litter
from tests.manifests import write_beside
from tests.speed import WAIT_S

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200), pytest.mark.weights]

_LOCAL = "import sys; from pathlib import Path; from cluster import local; place = Path(sys.argv[1]); "
UP = _LOCAL + "print(local.up(place, int(sys.argv[2]), {'num-cpus': '6'}).address)"
DOWN = _LOCAL + "local.down(place)"
SMALL = ["optim.max_steps=2", "optim.warmup_steps=1", "batching.full_window_share=0.1"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_whole(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, english_clips: list[Utterance]) -> Path:
    """A user's working directory: a recording, labelled clips, and modules under our packages' names."""
    folder = litter(tmp_path_factory.mktemp("work"))
    shutil.copy(str(english_clips[0].audio), folder / "meeting.flac")
    write_beside(folder / "mine.jsonl", english_clips[:8])
    return folder


def run(installed: Installed, folder: Path, *words: str, **variables: str) -> str:
    """Run the command there; it must succeed. Return what it printed."""
    done = subprocess.run(
        [installed.command, *words],
        cwd=folder,
        env=installed.environment() | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_installed_needs_no_extra_and_no_checkout(installed: Installed, folder: Path) -> None:
    listed = subprocess.run(
        [installed.python, "-c", "import whisperfleet as w, asr; print(asr.__path__[0], w.__version__)"],
        cwd="/",
        env=installed.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.startswith(str(installed.folder))
    assert run(installed, folder, "recipe", "demo") == (Path(__file__).parents[2] / "configs/demo.yaml").read_text()


def test_transcribe(installed: Installed, folder: Path, english_clips: list[Utterance]) -> None:
    said = run(installed, folder, "transcribe", "meeting.flac", "--model", "builtin:tiny.en")
    assert set(english_clips[0].text.lower().split()) & set(re.findall(r"[a-z']+", said.lower()))
    run(installed, folder, "transcribe", "meeting.flac", "--model", "builtin:tiny.en", "--out", "written")
    assert list((folder / "written").rglob("*meeting*"))


def test_serve(installed: Installed, folder: Path) -> None:
    command = [installed.command, "serve", "builtin:tiny.en", "port=0"]
    environment = installed.environment()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            url = next(found[0] for line in server.stdout if (found := re.findall(r"http://127\.0\.0\.1:\d+", line)))
            form = {"model": httpx.get(f"{url}/v1/models", timeout=WAIT_S).json()["data"][0]["id"]}
            files = {"file": (folder / "meeting.flac").read_bytes()}
            answer = httpx.post(f"{url}/v1/audio/transcriptions", data=form, files=files, timeout=120)
        finally:
            server.send_signal(signal.SIGINT)
    assert answer.raise_for_status().json()["text"]


def test_a_recipe_trains(installed: Installed, folder: Path) -> None:
    (folder / "mine.yaml").write_text(run(installed, folder, "recipe", "demo"))
    data = ["data.train=mine.jsonl", "data.validation=mine.jsonl", "base=builtin:tiny.en", "language=en"]
    run(installed, folder, "train", "mine.yaml", *data, "run.name=mine", *SMALL)
    assert json.loads((folder / "runs/mine/artifact/card.json").read_text())["training"]["step"] == 2


@pytest.fixture(scope="module")
def cluster(installed: Installed) -> Iterator[dict[str, str]]:
    """A cluster of this installed copy: the variables that lead to it."""
    with tempfile.TemporaryDirectory(prefix="wf-", dir="/tmp") as place:
        token = {"RAY_AUTH_TOKEN_PATH": f"{place}/token"}
        environment = installed.environment() | token
        up = [installed.python, "-c", UP, place, str(*free_ports(1))]
        done = subprocess.run(up, cwd="/", env=environment, capture_output=True, text=True, check=True)
        try:
            yield token | {"RAY_ADDRESS": done.stdout.strip()}
        finally:
            subprocess.run([installed.python, "-c", DOWN, place], cwd="/", env=environment, check=True)


def test_submit(installed: Installed, folder: Path, cluster: dict[str, str]) -> None:
    (folder / "there.yaml").write_text(run(installed, folder, "recipe", "demo"))
    clips = str(folder / "mine.jsonl")
    data = [f"data.train={clips}", f"data.validation={clips}", "base=builtin:tiny.en", "language=en"]
    words = ["--storage", str(folder / "shared"), "--follow", "--", "train", "there.yaml", *data, "run.name=there"]
    run(installed, folder, "submit", *words, *SMALL, **cluster)
    card = folder / "shared/runs/there/artifact/card.json"
    assert json.loads(card.read_text())["training"]["step"] == 2
