from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asr.errors import UserError
from serve.models import key_file

KEY = "a-key-that-nobody-may-see"
COMMAND = [sys.executable, "-m", "whisperfleet", "serve", "models", "list"]


@pytest.mark.medium
@pytest.mark.parametrize("way", ["environment", "standard input"])
def test_a_running_command_does_not_show_its_key_in_the_process_list(way: str) -> None:
    """The endpoint is a socket that never answers; what it gets is the key, so that the command has read it."""
    words = ["--key-file", "-"] if way == "standard input" else []
    variables = os.environ | ({key_file.KEY: KEY} if way == "environment" else {})
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        address = f"http://127.0.0.1:{endpoint.getsockname()[1]}"
        with subprocess.Popen([*COMMAND, "--url", address, *words], env=variables, stdin=subprocess.PIPE) as command:
            try:
                assert command.stdin
                command.stdin.write(KEY.encode() if way == "standard input" else b"")
                command.stdin.close()
                with endpoint.accept()[0] as asked:
                    assert f"Authorization: Bearer {KEY}".encode() in asked.recv(10_000)
                    shown = Path(f"/proc/{command.pid}/cmdline").read_bytes()
                    assert b"models" in shown and KEY.encode() not in shown
            finally:
                command.kill()


@pytest.mark.medium
def test_a_key_on_the_command_line_is_refused_with_what_to_do_and_not_shown_again() -> None:
    done = subprocess.run([*COMMAND, "--key", KEY], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "can be read by everybody" in done.stderr and key_file.KEY in done.stderr and "--key-file" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_a_file_s_key_goes_before_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(key_file.KEY, raising=False)
    assert key_file.read("") == ""
    monkeypatch.setenv(key_file.KEY, "one")
    assert key_file.read("") == "one"
    (tmp_path / "key").write_text(" two\n")
    assert key_file.read(str(tmp_path / "key")) == "two"


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"", "no key"), (b"a b", "more than one")])
def test_a_file_without_one_key_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(UserError, match=said):
        key_file.read(str(tmp_path / "key"))
