from asr.scoring.disagreement import disagreements, marked, spelled_differently

SAID = "A merry Christmas to all."


def test_the_worst_come_first_and_who_agrees_is_not_there() -> None:
    one = ["uguale", "ciao Anna", "uno due tre", "uno due tre", "a  b"]
    other = ["uguale", "ciao anna", "uno due te", "x y z", "a b"]
    found = disagreements([one, other, one])
    assert [(each.place, each.words, each.written_words) for each in found] == [(3, 3, 3), (2, 1, 1), (1, 0, 1)]


def test_each_word_is_marked_against_the_reference() -> None:
    found = [(one.text, one.mark) for one in marked(SAID, "so a mery Christmas all!")]
    assert found == [
        ("so ", "insert"),
        ("a ", "spelling"),
        ("mery ", "substitute"),
        ("Christmas ", "equal"),
        ("to ", "delete"),
        ("all!", "spelling"),
    ]
    assert {one.mark for one in marked(SAID, SAID)} == {"equal"}
    assert {one.mark for one in marked(SAID, "")} == {"delete"}


def test_spellings_stand_side_by_side_the_most_frequent_first() -> None:
    ctc = ["a mery christmaus to all", "a merry christmaus to all", "a merry christ maus to all", "oll"]
    whisper = [SAID, SAID, SAID, "all"]
    found = spelled_differently([SAID] * 3 + ["all"], [ctc, whisper])
    assert [(one.reference, one.heard, one.times) for one in found] == [
        ("christmas", ("christmaus", "christmas"), 2),
        ("merry", ("mery", "merry"), 1),
        ("christmas", ("christ maus", "christmas"), 1),
        ("all", ("oll", "all"), 1),
    ]
    assert found[0].place == 0


def test_words_left_out_put_in_and_run_together() -> None:
    found = spelled_differently(["a b c d e f"], [["a b cd f"], ["a b c d x e f"]])
    assert [(one.reference, one.heard) for one in found] == [("c d e", ("cd", "c d x e"))]
    assert spelled_differently(["a b"], [["a x b"], ["a b"]])[0].heard == ("x", "")
    assert spelled_differently(["a b"], [["a x"], ["a x"]]) == []  # both wrong alike: no difference of theirs


def test_another_sentence_is_no_spelling() -> None:
    assert spelled_differently(["a b c d e f g"], [["q r s t u v w x"], ["a b c d e f g"]]) == []


def test_a_script_without_spaces_is_compared_letter_by_letter() -> None:
    found = spelled_differently(["今日は晴れ"], [["今日わ晴れ"], ["今日は晴れ"]])
    assert [(one.reference, one.heard) for one in found] == [("は", ("わ", "は"))]
    assert disagreements([["今日わ晴れ"], ["今日は晴れ"]])[0].words == 1
