"""The Slurm script: by its linter, with false Slurm commands, and with a real Ray in a process namespace of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asr.io.cache import cache_root
from asr.utterance import Utterance
from cluster.resources import WAITING_ACTORS
from tests.manifests import write_beside
from tests.train.checks.doctored import tiny_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "cluster/slurm/train.sbatch"
BIN = Path(sys.executable).parent
CPUS = (os.cpu_count() or 1) + WAITING_ACTORS + 1

# `ray symmetric-run` ends every Ray that it sees: here only its own, so that the tests' goes on.
ALONE = ["--pid", "--mount", "--fork", "--mount-proc", "--kill-child"]
IN_A_FOLDER_OF_ITS_OWN = 'mkdir -p /tmp/ray && mount -t tmpfs ray /tmp/ray && exec bash "$@"'


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder of false commands that stand before all others, and write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder / "scontrol", 'echo "scontrol $*" >> "$HOME/calls"')
    command(
        folder / "srun",
        """
        echo "srun $*" >> "$HOME/calls"
        while [[ $1 == --* ]]; do shift; done
        exec "$@"
        """,
    )
    return folder


def command(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def run(slurm: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the script as Slurm would on the only node of a job."""
    home = slurm.parent
    (home / "venv").mkdir(exist_ok=True)
    if not (home / "venv/bin").exists():
        (home / "venv/bin").symlink_to(slurm)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    environment |= {
        "HOME": str(home),
        "WHISPERFLEET_VENV": str(home / "venv"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": str(10_000 + os.getpid()),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": str(CPUS),
        "WHISPERFLEET_CACHE": str(cache_root()),
    }
    return subprocess.run(
        [*before, *(() if before else ("bash",)), str(SCRIPT), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([BIN / "shellcheck", SCRIPT], capture_output=True)
    assert done.stdout.decode() == ""
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_what_slurm_is_told() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))
    assert options["ntasks-per-node"] == "1"
    assert {"exclusive", "requeue"} <= set(options)
    assert options["open-mode"] == "append" and options["signal"].startswith("B:USR1@")


def test_the_command_s_exit_code_is_the_job_s_and_the_token_is_nobody_else_s(slurm: Path) -> None:
    command(slurm / "ray", 'echo "$RAY_AUTH_MODE $*" >> "$HOME/calls"; while [[ $1 != -- ]]; do shift; done; "${@:2}"')
    command(slurm / "whisperfleet", 'echo "whisperfleet $* at $RAY_ADDRESS" >> "$HOME/calls"; exit 3')
    done = run(slurm, "train", "my.yaml", "run.name=with space")
    assert (done.returncode, done.stderr) == (3, "")
    sruns, rays, ours = (slurm.parent / "calls").read_text().splitlines()
    assert re.fullmatch(rf"srun --ntasks-per-node=1 --cpus-per-task={CPUS} ray symmetric-run .*", sruns)
    address = re.search(rf"token symmetric-run --address (\S+:2\d{{4}}) --min-nodes 1 --num-cpus={CPUS} -- ", rays)
    assert address and ours == f"whisperfleet train my.yaml run.name=with space at {address[1]}"
    token = slurm.parent / ".ray/auth_token"
    assert len(token.read_text().strip()) == 64 and token.stat().st_mode & 0o777 == 0o600


def test_a_ray_that_does_not_start_is_a_failure_though_it_says_that_all_is_well(slurm: Path) -> None:
    command(slurm / "ray", "exit 0")
    done = run(slurm, "train", "my.yaml")
    assert done.returncode == 1
    assert "the command never ran" in done.stderr


def test_before_the_time_is_up_the_job_is_queued_again(slurm: Path) -> None:
    command(slurm / "srun", "kill -USR1 $PPID")
    done = run(slurm, "train", "my.yaml")
    assert done.returncode == 0, done.stderr
    assert (slurm.parent / "calls").read_text() == f"scontrol requeue {10_000 + os.getpid()}\n"


@pytest.mark.slow
@pytest.mark.weights
def test_a_verb_runs_on_the_ray_that_the_script_starts(
    slurm: Path, english_clips: list[Utterance], tmp_path: Path
) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None, "util-linux has it"
    namespaces = [unshare, *ALONE, *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    manifest = tmp_path / "train.jsonl"
    write_beside(manifest, english_clips[:12])
    base = tiny_checkpoint(tmp_path / "random")
    words = ["check", str(ROOT / "configs/demo.yaml"), f"base={base}", "language=en", f"data.train={manifest}"]
    settings = [f"workers.cpus_each={CPUS}", f"run.folder={tmp_path / 'runs'}", "--json"]
    done = run(slurm, *words, *settings, before=(*namespaces, "sh", "-c", IN_A_FOLDER_OF_ITS_OWN, "-"))
    assert done.returncode == 0, done.stdout + done.stderr
    (printed,) = [line for line in done.stdout.splitlines() if line.startswith("[{")]
    steps = {step["name"]: step for step in json.loads(printed)}
    assert steps["cluster"]["state"] == "ok"  # a Ray of its own would not have so many CPUs
    assert "scontrol" not in (tmp_path / "calls").read_text()
