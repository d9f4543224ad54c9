import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from asr.scoring.comparison import ModelComparison
from asr.scoring.comparison_report import number, points, side_by_side, size, write_comparison_report
from asr.scoring.report import MAX_CELLS
from tests.asr.scoring.test_comparison import BETTER, SAID, WORSE, compared, measured
from tests.asr.scoring.test_report import Page

pytestmark = pytest.mark.medium


def report(tmp_path: Path, comparison: ModelComparison, title: str = "ModelComparison", **details: str) -> str:
    write_comparison_report(tmp_path / "report.html", comparison, title, details)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_models_stand_side_by_side(tmp_path: Path) -> None:
    page = Page(report(tmp_path, compared(measured(WORSE, "runs/ctc/artifact"), measured(BETTER)), versions="torch 2"))
    assert (
        "2 models on the same 3 utterances with words and 1 without, 10.0 s of audio; 1 row in quarantine" in page.text
    )
    assert "ctc whisper, full context 50.0 %" in page.text and "builtin:base whisper, full context 0.0 %" in page.text
    assert "100.0 % 3 of 3" in page.text  # capitals, and punctuation
    assert "2.0 × 5.0 s in all 0.500 10.0 % 1.4 GB 290 MB 72.6 M" in page.text
    assert "ctc and builtin:base: too close to tell apart on these utterances ctc less builtin:base +50.0" in page.text
    assert "The models differ on 3 of 3 utterances, on 2 of these in words and on 1 in case or punctuation" in page.text
    assert "reference A merry Christmas, Anna. ctc 2 errors a mery christmaus anna" in page.text
    assert "christmas christmaus christmas 1" in page.text
    assert "mute 4.0 s ctc you builtin:base you" in page.text
    assert "too_long 1 long 31 s" in page.text and "versions torch 2" in page.text
    assert [one["title"] for one in page.attributes("th") if "title" in one] == ["runs/ctc/artifact"] * 2


def test_one_file_without_script_or_outside_host(tmp_path: Path) -> None:
    html = report(tmp_path, compared(measured(WORSE), measured(BETTER)))
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not {"src", "href", "xlink:href", "srcset", "onload"} & {name for _, found in page.tags for name in found}
    assert "url(" not in html and "@import" not in html and "http:" not in html and "https:" not in html
    policy = next(one["content"] for one in page.attributes("meta") if "http-equiv" in one)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in html


def test_a_narrow_screen_cuts_no_table_off(tmp_path: Path) -> None:
    """Each scrolls in a box of its own, whose shadow shows that there is more."""
    html = report(tmp_path, compared(measured(WORSE), measured(BETTER)))
    assert html.count("<table") == len(re.findall(r'<div class="scroll"[^>]*tabindex="0">\s*<table', html)) >= 4
    [style] = re.findall(r"^\.scroll \{(.*?)^\}", html, re.MULTILINE | re.DOTALL)
    assert "overflow-x: auto" in style and "var(--edge)" in style


def test_what_people_said_cannot_become_markup(tmp_path: Path) -> None:
    attack = '<script>alert("1")</script>'
    said = [attack, "'\"><img src=x>", "</dd></dl>"]
    models = measured([attack, attack, "<b>"], attack, said=said), measured(["<i>", "x", attack], said=said)
    html = report(tmp_path, compared(*models), title=attack, **{attack: attack})
    assert not re.search(r"<(script|img|b|i)\b", html)
    assert Page(html).text.count(attack) >= 8


def test_the_page_can_be_navigated(tmp_path: Path) -> None:
    page = Page(report(tmp_path, compared(measured(WORSE), measured(BETTER), measured(SAID, "third"))))
    assert page.attributes("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))
    assert all(one.get("scope") in ("col", "row") for one in page.attributes("th"))
    ids = {one["id"] for _, one in page.tags if "id" in one}
    assert {one["aria-labelledby"] for _, one in page.tags if "aria-labelledby" in one} == ids
    assert page.text.count("too close") == 3


def test_errors_are_marked_without_colour(tmp_path: Path) -> None:
    models = measured(["a mery Christmas, Anna Anna.", *BETTER[1:]]), measured(["A merry Christmas.", *BETTER[1:]])
    html = report(tmp_path, compared(*models))
    assert '<span class="wrong-s">mery</span> ' in html and '<span class="wrong-c">a</span> ' in html
    assert '<ins class="wrong-i">' in html and '<del class="wrong-d">Anna.</del>' in html


def test_models_that_agree_differ_nowhere(tmp_path: Path) -> None:
    page = Page(report(tmp_path, compared(measured(BETTER), measured(BETTER))))
    assert "Nowhere: all models wrote the same" in page.text and "several spellings" not in page.text


def test_a_loop_does_not_fill_the_page(tmp_path: Path) -> None:
    looping = measured(["grazie " * 300, *BETTER[1:]])
    html = report(tmp_path, compared(looping, measured(BETTER)))
    [loop, *_] = side_by_side(compared(looping, measured(BETTER)), 1)
    assert (len(loop.models[0].words), loop.models[0].hidden) == (MAX_CELLS, 300 - MAX_CELLS)
    assert f"and {300 - MAX_CELLS} more words" in html and "cut at 100 %" in html


def test_a_language_without_spaces_is_warned_of(tmp_path: Path) -> None:
    models = [measured([heard], said=["今日は、いい天気。"]) for heard in ("今日わいい天気", "今日は、いい天気。")]
    japanese = [replace(one, evaluation=replace(one.evaluation, language="ja")) for one in models]
    page = Page(report(tmp_path, compared(*japanese)))
    assert "Japanese writes no spaces" in page.text and "は わ は 1" in page.text


def test_figures_are_short() -> None:
    assert [size(count) for count in (290_403_842, 3_100_000_000)] == ["290 MB", "3.1 GB"]
    assert [number(count) for count in (37_760_640, 1_543_304_960)] == ["37.8 M", "1.54 G"]
    assert [points(one) for one in (0.0123, -0.004, -0.0001)] == ["+1.2", "−0.4", "0.0"]
