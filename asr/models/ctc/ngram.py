"""Back-off n-gram models (Katz 1987) in the ARPA format, that of KenLM, SRILM and others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UserError
from asr.io.unretryable import writing
from asr.printable import printable

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0
"""The format's log probability of what is never foretold, such as the beginning."""
DIGITS = 6
"""Of logarithms in the file, and in memory too: a model scores the same when it has been written and read."""
_NO_UNKNOWN = -100.0  # as KenLM has it where a file has no <unk>
LN_10 = math.log(10)

Ngram = tuple[str, ...]


@dataclass(frozen=True)
class NgramModel:
    """Probabilities of word after word. Both tables are logarithms to base 10, rounded to ``DIGITS``."""

    order: int
    logs: Mapping[Ngram, float]
    """Log probability of the last word after the ones before it."""
    backoffs: Mapping[Ngram, float]
    """Of a history: what the probability of a word costs that was not seen after it. 0 where it is absent."""

    def known(self, word: str) -> str:
        """Return the word, or ``<unk>`` for one that the model does not have."""
        return word if (word,) in self.logs else UNKNOWN

    def score(self, history: Sequence[str], word: str) -> float:
        """Return the natural log of a word's probability after a history that begins with ``<s>``, however long."""
        context, word = self.context(history), self.known(word)
        cost = 0.0
        while (log := self.logs.get((*context, word))) is None:
            if not context:
                return (cost + _NO_UNKNOWN) * LN_10
            cost += self.backoffs.get(context, 0.0)
            context = context[1:]
        return (cost + log) * LN_10

    def backoff(self, context: Ngram) -> float:
        """Return the natural log of what a context's word costs that was not seen after it."""
        return self.backoffs.get(context, 0.0) * LN_10

    def context(self, history: Sequence[str]) -> Ngram:
        """Return what matters of a history: its last words, up to the longest run that the model has."""
        logs, recent = self.logs, history[max(len(history) - self.order + 1, 0) :]
        context = tuple(word if (word,) in logs else UNKNOWN for word in recent)
        while context and context not in logs:
            context = context[1:]
        return context

    def write(self, path: Path) -> None:
        """Write the model as an ARPA file (UTF-8). The same model gives the same bytes. Raises UserError."""
        by_order: list[list[Ngram]] = [[] for _ in range(self.order)]
        for ngram in sorted(self.logs):
            by_order[len(ngram) - 1].append(ngram)
        lines = ["\\data\\", *(f"ngram {n}={len(ngrams)}" for n, ngrams in enumerate(by_order, 1))]
        for n, ngrams in enumerate(by_order, 1):
            lines += ["", f"\\{n}-grams:"]
            for ngram in ngrams:
                backoff = f"\t{self.backoffs[ngram]:.{DIGITS}f}" if ngram in self.backoffs else ""
                lines.append(f"{self.logs[ngram]:.{DIGITS}f}\t{' '.join(ngram)}{backoff}")
        lines += ["", "\\end\\", ""]
        with writing(path):
            path.write_bytes("\n".join(lines).encode())

    @classmethod
    def read(cls, path: Path) -> NgramModel:
        """Return the model of an ARPA file. Raises UserError naming the file and the line if it is damaged."""
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            raise UserError(f"{path}: not a language model in the ARPA format: it is not UTF-8", _WANTED) from None
        except (OSError, ValueError) as error:  # the latter of a path with a null in it
            raise UserError(f"{printable(str(path), 4096)}: {getattr(error, 'strerror', error)}", _WANTED) from None
        return _Reader(path, text).model()


_WANTED = "it takes an ARPA file, as KenLM's lmplz writes"


class _Reader:
    """Reads a file's lines in their order."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.number = 0
        self.lines = iter(text.split("\n"))  # never at other separators: those may be in words
        self.logs: dict[Ngram, float] = {}
        self.backoffs: dict[Ngram, float] = {}

    def model(self) -> NgramModel:
        while self._next() != "\\data\\":  # the format allows a preamble
            pass
        counts: list[int] = []
        while (line := self._next()).startswith("ngram "):
            number, _, count = line.removeprefix("ngram ").partition("=")
            if number.strip() != str(len(counts) + 1) or not count.strip().isdecimal():
                raise self._damage("no count of n-grams", line)
            counts.append(int(count))
        if not counts:
            raise self._damage("no count of n-grams", line)
        for n, expected in enumerate(counts, 1):
            if line != f"\\{n}-grams:":
                raise self._damage(f"not the beginning of the {n}-grams", line)
            for _ in range(expected):
                self._ngram(self._next(), n)
            line = self._next()
        if line != "\\end\\":
            raise self._damage("not the end", line)
        return NgramModel(len(counts), self.logs, self.backoffs)

    def _ngram(self, line: str, n: int) -> None:
        cells = [cell for cell in line.replace("\t", " ").split(" ") if cell]
        if not n + 1 <= len(cells) <= n + 2:
            raise self._damage(f"no {n}-gram", line)
        numbers = list(self._numbers(line, [cells[0], *cells[n + 1 :]]))
        ngram = tuple(cells[1 : n + 1])
        if numbers[0] > 0 or ngram in self.logs:
            raise self._damage("twice the same" if ngram in self.logs else "a probability above 1", line)
        if n > 1 and any((word,) not in self.logs for word in ngram):
            raise self._damage("a word that is not among the 1-grams", line)
        self.logs[ngram] = numbers[0]
        if numbers[1:]:
            self.backoffs[ngram] = numbers[1]

    def _numbers(self, line: str, cells: Sequence[str]) -> Iterator[float]:
        for cell in cells:
            try:
                number = float(cell)
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise self._damage("not a number where one has to be", line)
            yield round(number, DIGITS)

    def _next(self) -> str:
        """Return the next line that is not empty."""
        for line in self.lines:
            self.number += 1
            if line := line.strip(" \t\r"):
                return line
        raise UserError(f"{self.path}: not a whole language model in the ARPA format: it ends too early", _WANTED)

    def _damage(self, what: str, line: str) -> UserError:
        return UserError(f"{self.path}: line {self.number}: {what}: '{printable(line, 60)}'", _WANTED)
