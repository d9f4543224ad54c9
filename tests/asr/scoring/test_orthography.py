import pytest

from asr.scoring.orthography import Orthography, Recall, score_orthography


def counts(found: Recall | None) -> tuple[int, int] | None:
    return (found.right, found.total) if found else None


def scored(reference: str, hypothesis: str, language: str | None = None) -> Orthography:
    return score_orthography([reference], [hypothesis], language)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("Ciao Anna, la RAI", "Ciao anna, la Rai", (1, 3)),
        ("Ciao Anna", "CIAO ANNA", (0, 2)),  # capitals throughout are no better than none
        ("Ciao Anna", "ciao Hanna", (0, 1)),  # a word that is misheard has no case
        ("ciao", "Ciao", None),
        ("È così", "è così", (0, 1)),
        ("Привет, Анна", "Привет, анна", (1, 2)),
        ("Οδός", "οδός", (0, 1)),
        ("今日は、いい天気。", "今日は。いい天気", None),
        ("ދިވެހި ބަސް", "ދިވެހި ބަސް", None),
        ("ﬁne Ｔea", "fine Tea", (1, 1)),  # another form of the same letter
        ("ქართული", "ქართული", None),
    ],
)
def test_casing_is_of_words_with_a_capital_that_were_transcribed(
    reference: str, hypothesis: str, expected: tuple[int, int] | None
) -> None:
    assert counts(scored(reference, hypothesis).casing) == expected


def test_the_turkish_i_keeps_its_dot() -> None:
    assert counts(scored("Isparta İzmir", "ısparta İzmir", "tr").casing) == (1, 2)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("Ciao, Anna. Vieni?", "ciao anna. vieni", (1, 3)),
        ("Ciao, Anna.", "Ciao. Anna,", (0, 2)),
        ("a, b, c.", "a b, c.", (2, 3)),
        ("Buon Natale, a tutti.", "buon natalle, a tutti.", (2, 2)),  # a misspelt word has its mark all the same
        ("Fine qui, presto.", "Fine qui,.", (2, 2)),  # the end is the end, whatever is left out before
        ("uno, due, tre", "tre", (0, 2)),
        ("Sì, no", "Sì , no", (1, 1)),
        ("Disse: «vieni».", 'disse: "vieni".', (4, 4)),
        ("¿Qué? ¡No!", "Qué? No!", (2, 4)),
        ("यह है।", "यह है।", (1, 1)),
        ("今日は、いい天気。", "今日わ、いい天気", (1, 2)),
        ("متى؟", "متى?", (0, 1)),
        ("l'amico ha 3.5", "l amico ha 3 5", None),
        ("Ah!!", "Ah!", (1, 2)),
    ],
)
def test_punctuation_is_found_at_the_same_word(
    reference: str, hypothesis: str, expected: tuple[int, int] | None
) -> None:
    assert counts(scored(reference, hypothesis).punctuation) == expected


def test_a_set_is_counted_together_with_an_interval() -> None:
    found = score_orthography(["Uno.", "Due.", "tre"] * 10, ["Uno.", "due", "tre"] * 10)
    assert found.casing is not None and found.punctuation is not None
    assert (found.casing.right, found.casing.total, found.casing.share) == (10, 20, 0.5)
    assert 0.2 < found.casing.low < 0.5 < found.casing.high < 0.8
    assert found.punctuation.as_json() == {
        "share": 0.5,
        "low": found.punctuation.low,
        "high": found.punctuation.high,
        "right": 10,
        "total": 20,
    }
    assert score_orthography([], []) == Orthography(None, None)
