import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import UserError
from asr.scoring.evaluation import Evaluation, UtteranceResult
from asr.scoring.report import MAX_CELLS, WORST, duration, histogram, percent, write_report
from asr.utterance import Quarantined

VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """What a reader of the page relies on; feeding it a page whose tags do not nest fails."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def evaluation(*pairs: tuple[str, str], checkpoint: str = "after", language: str | None = "it") -> Evaluation:
    results = [UtteranceResult(f"clip-{i}", said, heard, 1.0 + i) for i, (said, heard) in enumerate(pairs)]
    return Evaluation(checkpoint, language, "short", results, seconds=2.0)


def report(tmp_path: Path, *evaluations: Evaluation, title: str = "Report", **details: str) -> str:
    write_report(tmp_path / "report.html", evaluations, title, details)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_before_and_after_stand_side_by_side(tmp_path: Path) -> None:
    before = evaluation(("uno due", "uno"), ("tre quattro", "tre"), checkpoint="whisper-base")
    after = evaluation(("uno due", "uno due"), ("tre quattro", "tre"), checkpoint="italian-lora")
    page = Page(report(tmp_path, before, after, title="Prompts", Versions="torch 2"))
    assert "before: 50.0 % → after: 25.0 %" in page.text
    assert "whisper-base short context" in page.text
    assert "italian-lora short context 25.0 % 0.0 % to 50.0 %" in page.text
    assert "1.5 × 2.0" in page.text
    assert "Versions torch 2" in page.text
    assert page.text.count("italian-lora, short context") == 3


def test_one_file_without_script_or_outside_host(tmp_path: Path) -> None:
    html = report(tmp_path, evaluation(("uno", "due")))
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not {"src", "href", "xlink:href", "srcset", "onload"} & {name for _, found in page.tags for name in found}
    assert "url(" not in html and "@import" not in html and "http:" not in html and "https:" not in html
    policy = next(one["content"] for one in page.attributes("meta") if "http-equiv" in one)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_people_said_cannot_become_markup(tmp_path: Path) -> None:
    attack = '<script>alert("1")</script>'
    hostile = Evaluation(attack, "it", "short", [UtteranceResult(attack, attack, "'\"><img src=x>", 1.0)], 1.0)
    html = report(tmp_path, hostile, title=attack, **{attack: attack})
    assert "<script" not in html and "<img" not in html
    assert Page(html).text.count(attack) >= 5


def test_errors_are_marked_without_colour_and_for_screen_readers(tmp_path: Path) -> None:
    page = Page(report(tmp_path, evaluation(("il gatto nero dorme qui", "un gatto dorme qui bene"))))
    assert (
        "il transcribed as un S gatto gatto nero not transcribed – D dorme dorme qui qui – inserted bene I" in page.text
    )
    assert "3 errors in 5 words" in page.text


@pytest.mark.parametrize(("language", "expected"), [("si", "si"), (None, "")])
def test_transcripts_carry_their_language_and_find_their_direction(
    language: str | None, expected: str, tmp_path: Path
) -> None:
    page = Page(report(tmp_path, evaluation(("ދިވެހި ބަސް", "ދިވެހި"), language=language)))
    alignment = next(one for one in page.attributes("p") if one.get("class") == "alignment")
    assert (alignment["lang"], alignment["dir"]) == (expected, "auto")
    # dir="auto" looks at the first letter in the element, so English inside it has to be shut out.
    english = [one for one in page.attributes("span") if one.get("lang") == "en"]
    assert english and all(one["dir"] == "ltr" for one in english)


def test_the_page_can_be_navigated(tmp_path: Path) -> None:
    page = Page(report(tmp_path, evaluation(("uno", "due"))))
    assert page.attributes("html") == [{"lang": "en"}]
    assert len(page.attributes("h1")) == 1
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(one.get("scope") in ("col", "row") for one in page.attributes("th"))
    ids = {one["id"] for _, one in page.tags if "id" in one}
    assert {one["aria-labelledby"] for _, one in page.tags if "aria-labelledby" in one} == ids


def test_the_utterances_with_most_errors_come_first_and_are_few(tmp_path: Path) -> None:
    pairs = [("uno due tre", " ".join(["x"] * (i % 3))) for i in range(WORST + 10)]
    page = Page(report(tmp_path, evaluation(*pairs, ("giusto", "giusto"))))
    shown = re.findall(r"clip-\d+", page.text)
    assert len(shown) == WORST
    assert shown[:3] == ["clip-0", "clip-1", "clip-10"]
    assert f"{WORST + 10} of {WORST + 11} utterances" in page.text


def test_a_loop_does_not_fill_the_page(tmp_path: Path) -> None:
    html = report(tmp_path, evaluation(("ciao", "grazie " * 300)))
    assert html.count('class="cell') == MAX_CELLS
    assert f"and {300 - MAX_CELLS} more words" in html
    assert "cut at 100 %" in html
    assert all(float(width) <= 100 for width in re.findall(r'(?:width|x[12])="([\d.]+)%"', html))


def test_no_errors(tmp_path: Path) -> None:
    page = Page(report(tmp_path, evaluation(("ciao", "Ciao!"))))
    assert "every word of every utterance is right" in page.text


@pytest.mark.medium
def test_a_language_without_spaces_is_warned_of(tmp_path: Path) -> None:
    assert "Japanese writes no spaces" in report(tmp_path, evaluation(("今日は", "今日わ"), language="ja"))
    assert "no spaces" not in report(tmp_path, evaluation(("uno", "due")))


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        report(tmp_path)
    with pytest.raises(UserError):
        report(tmp_path, evaluation())


@pytest.mark.parametrize(
    ("seconds", "expected"), [(4.24, "4.2 s"), (89.9, "89.9 s"), (90, "1.5 min"), (5400, "1.5 h"), (0, "0.0 s")]
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected.replace(" ", "\u202f")


def test_percent() -> None:
    assert percent(0.2857) == "28.6\u202f%"


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=50))
def test_the_histogram_counts_every_utterance_once(durations_s: list[float]) -> None:
    bins = histogram(durations_s)
    assert len(bins) <= 20
    assert sum(one.count for one in bins) == len(durations_s)
    assert max(one.height for one in bins) == 100
    for one in bins:
        assert one.count == sum(one.start_s <= duration_s < one.end_s for duration_s in durations_s)


RUN = "/home/somebody/work/runs/demo-1/artifact"


@pytest.mark.medium
def test_a_model_is_named_by_its_run_and_its_path_is_a_note(tmp_path: Path) -> None:
    before, after = evaluation(("uno", "due"), checkpoint="builtin:base"), evaluation(("uno", "uno"), checkpoint=RUN)
    page = Page(report(tmp_path, before, after))
    assert "builtin:base short context" in page.text and "demo-1 short context" in page.text
    assert page.text.count(RUN) == 1 and f"demo-1 {RUN}" in page.text  # among the details
    assert [one["title"] for one in page.attributes("th") if "title" in one] == [RUN]


@pytest.mark.medium
def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    other = RUN.replace("somebody", "nobody")
    page = Page(report(tmp_path, evaluation(("uno", "due"), checkpoint=RUN), evaluation(("a", "b"), checkpoint=other)))
    assert "somebody/work/runs/demo-1 short" in page.text and "nobody/work/runs/demo-1 short" in page.text
    twice = Page(report(tmp_path, evaluation(("uno", "due"), checkpoint=RUN), evaluation(("a", "b"), checkpoint=RUN)))
    assert "demo-1 (1) short" in twice.text and "demo-1 (2) short" in twice.text


@pytest.mark.medium
def test_what_is_in_quarantine_is_a_table(tmp_path: Path) -> None:
    rows = [
        Quarantined("<i>a", "not_text", "the transcript is nan"),
        Quarantined("b", "not_text"),
        Quarantined("c", "silent"),
    ]
    write_report(tmp_path / "q.html", [evaluation(("uno", "uno"))], "Report", {}, rows)
    page = Page((tmp_path / "q.html").read_text(encoding="utf-8"))
    assert "3 rows in quarantine" in page.text
    assert "not_text 2 <i>a the transcript is nan silent 1 c" in page.text
    assert "quarantine" not in report(tmp_path, evaluation(("uno", "uno")))


def test_words_on_silence_have_a_column_and_a_list(tmp_path: Path) -> None:
    mute = [UtteranceResult("mute-1", "", "Thank you.", 3.0), UtteranceResult("mute-2", "", "", 3.0)]
    page = Page(report(tmp_path, replace(evaluation(("uno", "uno")), silence=mute)))
    assert "2 in 1 of 2 clips" in page.text and "20.0 a minute" in page.text
    assert "mute-1 3.0 s Thank you." in page.text and "mute-2" not in page.text
    assert "silence" not in Page(report(tmp_path, evaluation(("uno", "uno")))).text
