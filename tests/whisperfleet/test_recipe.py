from __future__ import annotations

import pytest

from asr.errors import UserError
from cluster.project import configurations
from whisperfleet.recipe import recipe


def test_a_recipe_is_printed_as_it_lies_there(capsys: pytest.CaptureFixture[str]) -> None:
    recipe("demo")
    assert capsys.readouterr().out == configurations()["demo"].read_text(encoding="utf-8")


def test_without_a_name_each_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    recipe()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(configurations())
    assert all(len(line.split()) > 4 for line in lines)


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"no recipe 'dem', did you mean 'demo'\? \(choose one of ctc, demo, "):
        recipe("dem")
