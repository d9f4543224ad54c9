"""Exit codes: 2 for a person, a traceback for a bug."""

from __future__ import annotations

import errno
import warnings

import pytest

import whisperfleet.__main__ as command
from asr.errors import RenamedWarning, UserError


@pytest.fixture(autouse=True)
def without_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command takes the signal for good, and this process is a test's."""
    monkeypatch.setattr(command.termination, "take", lambda: None)


def test_a_user_error_of_several_lines_is_printed_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise UserError("a.yaml: unknown key 'x'\na.yaml: unknown key 'y'")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "whisperfleet: a.yaml: unknown key 'x'\nwhisperfleet: a.yaml: unknown key 'y'\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(ZeroDivisionError):
        command.main()


def test_a_full_disk_is_a_persons_matter_wherever_it_is_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/no/such/place")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("whisperfleet: /no/such/place: no space left, ")


def test_a_key_by_its_old_name_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(**_: object) -> None:
        warnings.warn("a.yaml: plan is now called batching", RenamedWarning, stacklevel=1)

    monkeypatch.setattr(command, "app", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        command.main()
    assert capsys.readouterr().err == "whisperfleet: a.yaml: plan is now called batching\n"
