from __future__ import annotations

from pathlib import Path

import pytest

from asr.errors import UserError
from asr.models.ctc.ngram import LN_10, NgramModel
from asr.models.ctc.ngram_training import train_ngram

# As KenLM and SRILM write them: a preamble, tabs or spaces, no back-off where there is none.
ARPA = """made by hand

\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-0.4\tcasa\t-0.3
-0.9 la -0.2
-2\t<unk>

\\2-grams:
-0.1\t<s> la
-0.2\tla casa
-0.3\tcasa </s>

\\end\\
"""


def read(tmp_path: Path, text: str | bytes) -> NgramModel:
    path = tmp_path / "model.arpa"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return NgramModel.read(path)


@pytest.mark.parametrize(
    ("history", "word", "log10"),
    [
        (["<s>"], "la", -0.1),
        (["<s>", "la"], "casa", -0.2),
        (["<s>"], "casa", -0.5 - 0.4),
        (["la"], "la", -0.2 - 0.9),
        (["casa"], "strada", -0.3 - 2),
        (["strada"], "casa", -0.4),  # an unknown history costs nothing here
        ([], "casa", -0.4),
    ],
)
def test_what_was_not_seen_backs_off(tmp_path: Path, history: list[str], word: str, log10: float) -> None:
    model = read(tmp_path, ARPA)
    assert model.order == 2
    assert model.score(history, word) == pytest.approx(log10 * LN_10)


def test_a_file_without_unknown_words_all_but_forbids_them(tmp_path: Path) -> None:
    model = read(tmp_path, ARPA.replace("ngram 1=5", "ngram 1=4").replace("-2\t<unk>\n", ""))
    assert model.score((), "strada") == pytest.approx(-100 * LN_10)


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    assert read(tmp_path, ARPA.replace("\n", "\r\n")) == read(tmp_path, ARPA)


@pytest.mark.parametrize(
    "sentences",
    [
        [["la", "casa"], ["la", "strada"], ["casa"]],
        [["ދިވެހި", "ބަސް"], ["ބަސް"]],
        [["東", "京"], ["京", "都"], ["\u3000", "\x85"]],  # characters at which other readers split lines and words
        [["<s>", "<unk>", "\\end\\", "\\data\\"]],
        [],
    ],
    ids=["Italian", "Thaana", "Chinese", "words of the format", "nothing"],
)
def test_written_and_read_a_model_is_the_same(tmp_path: Path, sentences: list[list[str]]) -> None:
    model = train_ngram(sentences, 3)
    model.write(tmp_path / "a.arpa")
    again = NgramModel.read(tmp_path / "a.arpa")
    assert again == model
    again.write(tmp_path / "b.arpa")
    assert (tmp_path / "b.arpa").read_bytes() == (tmp_path / "a.arpa").read_bytes()


def test_the_order_of_the_sentences_does_not_change_the_file(tmp_path: Path) -> None:
    sentences = [["la", "casa"], ["la", "strada"], ["casa", "mia"]]
    train_ngram(sentences, 3).write(tmp_path / "a.arpa")
    train_ngram(sentences[::-1], 3).write(tmp_path / "b.arpa")
    assert (tmp_path / "a.arpa").read_bytes() == (tmp_path / "b.arpa").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\\data\\", "", "it ends too early"),
        ("\\end\\", "", "it ends too early"),
        ("ngram 2=3", "ngram 2=2", "line 17: not the end: '-0.3"),
        ("ngram 2=3", "ngram 2=4", "line 19: no 2-gram"),
        ("ngram 2=3", "ngram 3=3", "line 5: no count of n-grams"),
        ("ngram 1=5\nngram 2=3\n", "", "line 5: no count of n-grams"),
        ("\\2-grams:", "\\3-grams:", "line 14: not the beginning of the 2-grams"),
        ("-0.2\tla casa", "-0.2\tla", "line 16: no 2-gram"),
        ("-0.2\tla casa", "-0.2\tla casa mia bella", "line 16: no 2-gram"),
        ("-0.2\tla casa", "-0.2\tla strada", "line 16: a word that is not among the 1-grams"),
        ("-0.2\tla casa", "-0.2\t<s> la", "line 16: twice the same"),
        ("-0.2\tla casa", "0.2\tla casa", "line 16: a probability above 1"),
        ("-0.2\tla casa", "x\tla casa", "line 16: not a number"),
        ("-0.2\tla casa", "nan\tla casa", "line 16: not a number"),
        ("-0.9 la -0.2", "-0.9 la -inf", "line 11: not a number"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in ARPA
    with pytest.raises(UserError) as refused:
        read(tmp_path, ARPA.replace(old, new))
    assert said in str(refused.value)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\x80\x04binary", b"\\data\\\nngram 1=99999999999\n\\1-grams:\n"])
def test_another_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"model\.arpa: not a"):
        read(tmp_path, content)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.arpa: No such file"):
        NgramModel.read(tmp_path / "none.arpa")
    with pytest.raises(UserError, match="Is a directory"):
        NgramModel.read(tmp_path)
