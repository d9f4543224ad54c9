from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from cluster.configurations import bring, locate, missing


def test_a_configuration_travels_wherever_it_is(tmp_path: Path) -> None:
    root, here = tmp_path / "checkout", tmp_path / "checkout" / "deep"
    for file in (root / "configs" / "a.yaml", here / "b.yaml", tmp_path / "c.yaml"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    typed = ["train", "../configs/a.yaml", "b.yaml", "../../c.yaml", "gone.yaml", "x=1"]
    words = locate(root, here, typed)
    assert words == ["train", "configs/a.yaml", "deep/b.yaml", str(tmp_path / "c.yaml"), "gone.yaml", "x=1"]
    renamed, brought = bring(root, words)
    assert renamed == ["train", "configs/a.yaml", "deep/b.yaml", "brought/c.yaml", "gone.yaml", "x=1"]
    assert brought == {
        "configs/a.yaml": root / "configs" / "a.yaml",
        "deep/b.yaml": here / "b.yaml",
        "brought/c.yaml": tmp_path / "c.yaml",
    }


def test_of_two_configurations_with_one_name_none_takes_the_other_s_place(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_text(folder)
    with pytest.raises(UserError, match="two configuration files have the same name"):
        bring(tmp_path / "checkout", [str(tmp_path / "one/a.yaml"), str(tmp_path / "two/a.yaml")])


def test_what_a_configuration_names_and_does_not_travel_is_said(tmp_path: Path) -> None:
    """The job would look for it in its own folder, in vain; with a storage it looks there."""
    for name in ("notes/train.jsonl", "notes/it's.jsonl", "notes/known.jsonl", "notes/more.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "a.yaml").write_text(
        "data: {train: [./notes/train.jsonl, notes/known.jsonl, notes/none.jsonl], validation: notes/it's.jsonl}\n"
        f"text: {'x' * 5000}\nfolder: notes\nabsolute: {tmp_path}/notes/more.jsonl\n"
    )
    words = ["train", "a.yaml", "data.test=[notes/more.jsonl]", f"{tmp_path}/notes/more.jsonl"]
    travelling = {"a.yaml", "notes/known.jsonl"}
    assert missing(tmp_path, words, "", travelling) == [
        "named, but left here: notes/train.jsonl; to take it: --with notes/train.jsonl",
        """named, but left here: notes/it's.jsonl; to take it: --with 'notes/it'"'"'s.jsonl'""",
        "named, but left here: notes/more.jsonl; to take it: --with notes/more.jsonl",
    ]
    assert missing(tmp_path, words, "s3://bucket/speech", travelling) == []
    (tmp_path / "checkout").mkdir()
    assert missing(tmp_path / "checkout", ["evaluate", "../notes/more.jsonl"], "", ()) == [
        "named, but left here: ../notes/more.jsonl; copy it into the checkout, or to --storage"
    ]


def test_a_configuration_that_is_no_yaml_is_left_for_the_verb_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: [")
    assert missing(tmp_path, ["train", "a.yaml"], "", {"a.yaml"}) == []
