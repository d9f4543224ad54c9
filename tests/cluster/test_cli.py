"""The verbs for jobs as a person types them, against a real head; one of them in a process of its own."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.artifact import CARD
from asr.utterance import Utterance
from cluster.cli import _variables, default_name
from cluster.jobs import Cluster, JobRequest
from tests.cluster.conftest import Running, Verb
from tests.manifests import write_beside

POLL_S, PATIENCE_S = 0.1, 240.0


@pytest.mark.slow
def test_a_verb_of_this_checkout_runs_there(
    verb: Verb, running: Running, tmp_path: Path, english_clips: list[Utterance]
) -> None:
    write_beside(tmp_path / "clips.jsonl", english_clips[:3])
    done = verb("submit", "--follow", "--name", "looks", "--", "data", "inspect", str(tmp_path / "clips.jsonl"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"job 'looks', attempt 1, on {running.head.address}: data inspect ")
    assert re.search(r"^rows +3, of which 3 usable", done.stdout, re.MULTILINE)
    (job,) = json.loads(verb("status", "looks", "--json").stdout)
    assert (job["name"], job["state"], job["exit_code"]) == ("looks", "succeeded", 0)
    assert job["order"]["words"] == ["data", "inspect", str(tmp_path / "clips.jsonl")]
    assert re.search(r"^rows +3, of which 3 usable", verb("logs", "looks").stdout, re.MULTILINE)


@pytest.mark.slow  # two starts of a verb that imports all of training
def test_a_mistake_there_has_its_exit_code_here_and_the_same_name_tries_again(verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: builtin:base\nbse: x\n")
    words = ["--name", "wrong", "--storage", str(tmp_path / "shared")]
    done = verb("submit", *words, "--follow", "--", "train", str(tmp_path / "mine.yaml"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "unknown key 'bse' (did you mean 'base'?)" in done.stdout  # of a file from outside of the checkout
    assert "job 'wrong' failed with exit code 2" in done.stderr
    made = json.loads(verb("submit", "--name", "wrong", "--json").stdout)
    assert made["attempt"] == 2
    assert made["order"]["words"] == ["train", str(tmp_path / "mine.yaml")]
    assert made["order"]["storage"] == str(tmp_path / "shared")
    assert verb("logs", "wrong", "--follow").returncode == 2
    assert "│ 2 " in verb("status", "wrong").stdout


@pytest.mark.slow
def test_ctrl_c_while_following_leaves_the_job_running_and_stop_ends_it(
    running: Running, cluster: Cluster, verb: Verb
) -> None:
    cluster.submit("sleeps", "echo begun; exec sleep 600", JobRequest(("train",)), {})
    with running.start("logs", "sleeps", "--follow") as follower:
        assert follower.stdout is not None and follower.stderr is not None
        for line in follower.stdout:
            if line == "begun\n":
                break
        follower.send_signal(signal.SIGINT)
        said = follower.stderr.read()
    assert follower.returncode == 130
    assert "job 'sleeps' goes on: whisperfleet logs sleeps --follow, whisperfleet stop sleeps" in said
    assert cluster.find("sleeps").state == "running"
    done = verb("stop", "sleeps")
    assert done.stdout == "job 'sleeps' was stopped; to go on with it: whisperfleet submit --name sleeps\n"
    again = verb("stop", "sleeps")
    assert (again.returncode, again.stderr) == (2, "whisperfleet: job 'sleeps' has ended already: it was stopped\n")
    followed = verb("logs", "sleeps", "--follow")
    assert (followed.returncode, followed.stderr) == (1, "job 'sleeps' was stopped\n")


@pytest.mark.parametrize(
    ("words", "settings", "said"),
    [
        (["submit", "--", "status"], {}, "'status' is a verb for this machine"),
        (["submit"], {}, "what shall run? (whisperfleet submit -- train configs/demo.yaml)"),
        (["submit", "--name", "nobody-s"], {}, "no job 'nobody-s' on "),
        (["submit", "--var", "NO_SUCH", "--", "train"], {}, "--var NO_SUCH: no value (export NO_SUCH first"),
        (["submit", "--var", "HF_TOKEN=hf_x", "--", "train"], {}, "export HF_TOKEN, and write --var HF_TOKEN)"),
        (["submit", "--with", "gone", "--", "train"], {}, "--with gone: there is no such file or folder"),
        (["status"], {"RAY_AUTH_TOKEN": "wrong"}, "does not take this token"),
        (["status"], {"RAY_ADDRESS": "http://127.0.0.1:1"}, "no cluster answers at http://127.0.0.1:1"),
    ],
)
def test_a_person_s_mistake_is_one_line(verb: Verb, words: list[str], settings: dict[str, str], said: str) -> None:
    done = verb(*words, **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow  # two starts of a real run
@pytest.mark.weights
def test_a_run_that_was_stopped_goes_on_under_its_name(
    verb: Verb, tmp_path: Path, english_clips: list[Utterance], small_base: str
) -> None:
    write_beside(tmp_path / "clips.jsonl", english_clips[:16])
    (tmp_path / "tiny.yaml").write_text(
        f"base: {small_base}\n"
        "data: {train: clips.jsonl}\n"  # relative, as `run.folder` is: both lie in --storage
        "run: {name: tiny, checkpoint_every_steps: 1}\n"
        "optim: {max_steps: 12, warmup_steps: 1}\n"  # more than are taken between two looks and a stop
        "plan: {max_clips: 2, micro_batches_per_step: 1, full_window_share: 0}\n"
        "lora: {rank: 4}\n"
        "workers: {cpus_each: 1}\n"
    )
    folder = tmp_path / "runs" / "tiny"
    done = verb("submit", "--storage", str(tmp_path), "--", "train", str(tmp_path / "tiny.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("job 'train-tiny', attempt 1, ")
    until = time.monotonic() + PATIENCE_S
    while not list(folder.glob("checkpoints/step_*")) and time.monotonic() < until:
        time.sleep(POLL_S)
    assert verb("stop", "train-tiny").returncode == 0
    assert not (folder / "artifact" / CARD).exists()
    before = {path.name for path in folder.glob("checkpoints/step_*")}
    assert before
    done = verb("submit", "--name", "train-tiny", "--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "artifact" / CARD).is_file()
    steps = [json.loads(line).get("step") for line in (folder / "history.jsonl").read_text().splitlines()]
    assert steps.count(1) == 1  # it did not begin anew


def test_a_variable_s_value_comes_from_the_environment_or_the_line_and_a_secret_s_never_from_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert _variables(["HF_TOKEN", "MODE=a=b", "EMPTY="]) == {"HF_TOKEN": "hf_secret", "MODE": "a=b", "EMPTY": ""}
    for name in (
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "WANDB_API_KEY",
        "MY_PASS",
        "HF_TOKEN_READ",
        "KEY_ID2",
    ):
        with pytest.raises(UserError) as refused:
            _variables([f"{name}=hf_secret"])
        assert name in str(refused.value) and "hf_secret" not in str(refused.value)
    with pytest.raises(UserError, match="DB_URL"):
        _variables(["DB_URL=postgres://me:hf_secret@host/db"])
    for given in (
        "PGPASSWORD=x",
        "GITHUB_PAT=x",
        "OPTIONS=--token x",
        "URL=https://h/a?sig=x",
        "X=hf_abcdefghijklmnop",
    ):
        with pytest.raises(UserError, match="can be read by everybody"):
            _variables([given])
    ordinary = ["MONKEY=1", "KEYBOARD=de", "URL=http://host:80/a@b", "TOKENIZERS_PARALLELISM=false", "NCCL_DEBUG=INFO"]
    assert len(_variables(ordinary)) == len(ordinary)


def test_a_job_is_called_after_what_it_does() -> None:
    assert default_name(["train", "configs/demo.yaml", "optim.max_steps=3"]) == "train-demo"
    assert default_name(["evaluate", "builtin:base"]) == "evaluate"
