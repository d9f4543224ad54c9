"""The whole way as a person goes it: the command, interrupted and gone on with, on real speech and real weights."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asr.data.sources import prompts
from asr.io.cache import cache_root
from tests.installed import Installed, install
from tests.litter import litter
from tests.releases import write_release

STEPS = 6
TEST_CLIPS = 12
SETTINGS = [
    "base=builtin:tiny.en",
    "language=en",
    f"optim.max_steps={STEPS}",
    "optim.warmup_steps=1",
    "run.checkpoint_every_steps=2",
    "batching.full_window_share=0.1",
    "workers.cpus_each=1",  # two threads wait for each other where tests beside it have the cores
]
CTC_SETTINGS = [f"optim.max_steps={STEPS}", "optim.warmup_steps=1", "run.checkpoint_every_steps=3"]
COMPARE = ["--compare", *(word for setting in CTC_SETTINGS for word in ("--ctc", setting))]
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.weights, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a release of Common Voice in it, of real English prompts, as users bring their own speech."""
    folder = litter(tmp_path_factory.mktemp("demo"))
    good, _ = prompts.utterances("en", prompts.fetch("en", cache_root()))
    clips = sorted((clip for clip in good if len(clip.text.split()) >= 5), key=lambda clip: len(clip.text))
    write_release(folder / "mine", "en", train=clips[:24], dev=clips[24:26], test=clips[26 : 26 + TEST_CLIPS])
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Not this checkout: what a wheel of it leaves in an environment."""
    return install(tmp_path_factory.mktemp("wheel"))


def start(installed: Installed, folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [installed.command, "demo", "--manifest", "mine", *options, *SETTINGS],
        cwd=folder,
        env=installed.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(session: int) -> list[str]:
    """Commands of the processes, not zombies, that belong to a session; Ray starts its own in the same one."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                alive.append((stat.parent / "cmdline").read_text().replace("\0", " ")[:100])
        except (OSError, IndexError):
            continue
    return alive


def wait_until_gone(session: int) -> None:
    for _ in range(100):
        left = processes_of(session)
        if not left:
            return
        time.sleep(0.2)
    pytest.fail(f"still running: {left}")


@pytest.fixture(scope="module")
def outcome(installed: Installed, folder: Path) -> Iterator[dict[str, Any]]:
    """The demo, interrupted with Ctrl-C after its first checkpoint, then run to its end, and to the comparison's."""
    first = start(installed, folder)
    kept = folder / "runs/demo-1/checkpoints/checkpoint_manager_snapshot.json"  # Ray's list of whole checkpoints
    deadline = time.monotonic() + 400
    while not (kept.is_file() and "step_0000002" in kept.read_text()):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)
    _, complaint = first.communicate(timeout=60)
    assert first.returncode not in (0, 2)
    assert "Traceback" not in complaint, complaint
    wait_until_gone(first.pid)
    second = start(installed, folder, *COMPARE)
    output, log = second.communicate(timeout=600)
    assert second.returncode == 0, log
    wait_until_gone(second.pid)
    yield {"output": output, "log": log, "line": json.loads(output.splitlines()[-1])}


def test_the_second_run_goes_on_where_the_first_was_stopped(outcome: dict[str, Any]) -> None:
    resumed = re.findall(r"resumed at (\d+)", outcome["log"])
    assert resumed and int(resumed[-1]) >= 2, outcome["log"]


def test_the_last_line_holds_sane_figures(outcome: dict[str, Any]) -> None:
    line = outcome["line"]
    assert line["test_clips"] == TEST_CLIPS
    for name in ("wer_before", "wer_after_short", "wer_after_full"):
        assert 0 <= line[name] <= line[f"{name}_ortho"] < 1
    assert line["served_ok"] is True
    assert line["train_seconds"] > 0


def test_no_clip_of_the_release_s_test_split_was_trained_on(folder: Path) -> None:
    rows = {name: (folder / f"runs/demo-1/data/{name}.jsonl").read_text().splitlines() for name in ("train", "test")}
    said = {name: {json.loads(row)["text"] for row in found} for name, found in rows.items()}
    table = (folder / "mine/train.tsv").read_text()
    assert len(rows["train"]) == 24 and all(f"\t{text}\t" in table for text in said["train"])
    assert all(f"\t{text}\t" not in table for text in said["test"])


def test_fine_tuning_opens_the_short_context(outcome: dict[str, Any]) -> None:
    assert outcome["line"]["wer_after_short"] < 0.5  # untrained it is above 1


def test_artifact_and_report_are_where_the_line_says(folder: Path, outcome: dict[str, Any]) -> None:
    card = json.loads((Path(outcome["line"]["artifact"]) / "card.json").read_text())
    assert [one["context"] for one in card["evaluations"]] == ["full", "short", "full"]
    assert card["training"]["step"] == STEPS
    assert "<svg" in Path(outcome["line"]["report"]).read_text()


def test_every_served_clip_is_printed_beside_the_truth(outcome: dict[str, Any]) -> None:
    for stage in range(1, 10):
        assert f"[{stage}/9]" in outcome["output"]
    assert "reference" in outcome["output"] and "transcript" in outcome["output"]


def test_the_other_kind_is_trained_on_the_same_speech_and_compared(folder: Path, outcome: dict[str, Any]) -> None:
    line, runs = outcome["line"], folder / "runs"
    card = json.loads((Path(line["artifact_ctc"]) / "card.json").read_text())
    assert Path(line["artifact_ctc"]) == runs / "demo-1-ctc/artifact"
    assert (card["family"], card["config"]["base"], card["training"]["step"]) == ("ctc", "builtin:tiny.en", STEPS)
    assert card["evaluations"][0]["utterances"] == line["compared_clips"] == TEST_CLIPS
    assert line["wer_whisper"] == line["wer_after_short"] <= line["wer_ctc"]  # 6 steps teach no letters
    assert line["speed_ratio_ctc"] > 0
    assert Path(line["report_comparison"]) == runs / "demo-1-comparison/report.html"
    told = json.loads((runs / "demo-1-comparison/comparison.json").read_text())
    assert [model["name"] for model in told["models"]] == ["demo-1", "demo-1-ctc"]
