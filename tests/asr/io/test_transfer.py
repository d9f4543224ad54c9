from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.io import storage, transfer


@pytest.mark.medium
def test_a_folder_goes_up_and_comes_back_and_the_last_file_is_last(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    files = {"card.json": "{}", "weights": "x" * 1000, "deep/a.txt": "a"}
    for name, text in files.items():
        (source / name).write_text(text)
    storage.write_text(storage.join(root, "card.json"), "of an older one")
    with pytest.raises(ValueError, match=r"no done\.json"):
        transfer.upload(source, root, last="done.json")
    transfer.upload(source, root, last="card.json")
    transfer.download(root, tmp_path / "back")
    assert {p.relative_to(tmp_path / "back").as_posix(): p.read_text() for p in (tmp_path / "back").rglob("*.*")} == {
        name: text for name, text in files.items() if "." in name
    }
    assert (tmp_path / "back/weights").read_text() == files["weights"]


def test_an_upload_that_breaks_never_looks_complete(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("card.json", "weights"):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    storage.write_text(storage.join(root, "card.json"), "of an older one")
    copy = transfer._copy

    def breaking(pair: tuple[str, str]) -> None:
        assert not storage.exists(storage.join(root, "card.json"))
        if storage.name_of(pair[1]) == "weights":
            raise UserError("the network is gone")
        copy(pair)

    monkeypatch.setattr(transfer, "_copy", breaking)
    with pytest.raises(UserError, match="network"):
        transfer.upload(tmp_path / "source", root, last="card.json")
    assert not storage.exists(storage.join(root, "card.json"))
