from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from asr.errors import UserError
from serve.cli import serve
from tests.litter import litter


def of_session(session: int) -> list[int]:
    """The living processes of a session: of a command that was started with one of its own, and of its Ray."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def test_serve_says_where_and_leaves_nothing_behind(tiny_en_name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "whisperfleet", "serve", tiny_en_name, "name=tiny", "port=0", "--json"]
    with subprocess.Popen(
        command,
        cwd=litter(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout and process.stderr
        ready = json.loads(process.stdout.readline())
        assert ready["model"] == "tiny"
        assert (ready["engine"], ready["precision"], ready["context"]) == ("ctranslate2", "int8", "full")
        with urllib.request.urlopen(f"{ready['url']}/readyz", timeout=60) as response:
            assert response.status == 200
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does: everybody in the foreground gets it
        rest, complaints = process.communicate(timeout=120)
    assert (process.returncode, rest, complaints) == (0, "", "")
    assert of_session(process.pid) == []


@pytest.mark.parametrize(
    ("model", "settings", "mistake"),
    [
        ("", [], "there is no model"),
        ("prt=1", [], "did you mean 'port'"),
        ("models.it=/nowhere", ["port=0"], "no checkpoint '/nowhere'"),
        ("s3://bucket/m?endpoint_override=x", ["prt=1"], "did you mean 'port'"),
    ],
)
def test_the_models_may_stand_in_the_settings_alone(model: str, settings: list[str], mistake: str) -> None:
    with pytest.raises(UserError, match=mistake):
        serve(model, settings)


def test_a_folder_may_have_an_equals_sign_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "port=0").mkdir()
    with pytest.raises(UserError, match="port=0: no checkpoint in this folder"):
        serve("port=0")


def test_mistakes_in_the_settings_are_all_named() -> None:
    with pytest.raises(UserError, match=r"replicas.*\n.*did you mean 'port'"):
        serve("builtin:tiny.en", ["prt=1", "replicas=0"])
