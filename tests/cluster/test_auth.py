from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from cluster import auth


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (auth.MODE, auth.VALUE, auth.FILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_token_is_looked_for_where_ray_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert auth.token() is None and auth.headers() == {}
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("of the home\n")
    assert auth.token() == "of the home"
    (home / "other").write_text("of the file")
    monkeypatch.setenv(auth.FILE, str(home / "other"))
    assert auth.token() == "of the file"
    monkeypatch.setenv(auth.VALUE, "itself")
    assert auth.headers() == {"Authorization": "Bearer itself"}
    monkeypatch.setenv(auth.MODE, "disabled")
    assert auth.headers() == {}


def test_a_file_that_is_named_has_to_be_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auth.FILE, str(home / "gone"))
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH=.*gone: no such file"):
        auth.token()
    monkeypatch.setenv(auth.FILE, str(home))
    with pytest.raises(UserError, match="cannot be read"):
        auth.token()


def test_a_new_token_is_its_owner_s_and_an_old_one_stays(home: Path) -> None:
    auth.ensure_token()
    path = home / ".ray" / "auth_token"
    first = auth.token()
    assert first and len(first) == 64 and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    auth.ensure_token()
    assert auth.token() == first and path.stat().st_mode & 0o777 == 0o600
