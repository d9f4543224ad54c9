"""Detects transcripts all in capitals or all in small letters: a model learns to write like that."""

from __future__ import annotations

import unicodedata

CAPITALS, SMALL = "capitals", "small letters"
_MIN_LETTERS = 6  # of a row that is judged: NBS and OK are written so
_MIN_ROWS = 5
_CAPITALS_SHARE = 0.2  # of rows: a source in capitals among others
_SMALL_SHARE = 0.99  # command words and fragments are often written small: half of the telephone prompts
# Unicode maps these to another case, but nobody writes them in two: Georgian looks small, Cherokee capital.
_ONE_CASE = ("GEORGIAN", "CHEROKEE")


class Casing:
    """Counts of rows by the case of their letters. Rows in scripts without case are not judged."""

    def __init__(self) -> None:
        self.rows = self.capitals = self.small = 0
        self.example = {CAPITALS: "", SMALL: ""}

    def add(self, id: str, text: str) -> None:
        """Take one transcript into account."""
        letters = [letter for letter in text if letter.isalpha()]
        cased = [letter for letter in letters if _has_case(letter)]
        if len(cased) < max(_MIN_LETTERS, len(letters) / 2):  # DVD in a Chinese sentence says nothing of the sentence
            return
        self.rows += 1
        if all(letter.isupper() or len(letter.upper()) > 1 for letter in cased):  # GRÜßE: ß has no capital of its own
            self.capitals += 1
            self.example[CAPITALS] = self.example[CAPITALS] or f"'{id}': {text!r:.60}"
        elif all(letter.islower() for letter in cased):
            self.small += 1
            self.example[SMALL] = self.example[SMALL] or f"'{id}': {text!r:.60}"

    def finding(self) -> str:
        """Return what is odd, in words, and "" where nothing is."""
        if self.rows < _MIN_ROWS:
            return ""
        if self.capitals >= _CAPITALS_SHARE * self.rows:
            return f"{self._counted(self.capitals)} are all in capitals, such as {self.example[CAPITALS]}"
        if self.small >= _SMALL_SHARE * self.rows:
            return f"{self._counted(self.small)} have no capital, such as {self.example[SMALL]}"
        return ""

    def _counted(self, rows: int) -> str:
        return f"all {rows:,} transcripts" if rows == self.rows else f"{rows:,} of {self.rows:,} transcripts"


ADVICE = (
    "a model learns to write so, and its orthographic WER says little: take transcripts as they were first written, "
    "or restore the case; where it is wanted so, read the normalised WER"
)


def _has_case(letter: str) -> bool:
    return letter.lower() != letter.upper() and not unicodedata.name(letter, "").startswith(_ONE_CASE)
