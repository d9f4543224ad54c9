"""Vocabulary of a CTC network: which symbol each output stands for, and the way from text to ids and back.

Legend: T positions of the encoder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, UserError
from asr.language import UNSPACED
from asr.models.ctc.text_rules import DELIMITER, WORD_START, TextRules, alternatives, is_spoken, without
from asr.parsed import JsonObject
from asr.printable import printable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, UNKNOWN = "<pad>", "<unk>"
_LONGEST_LIST = 20  # letters that an error names


@dataclass(frozen=True)
class CtcVocabulary:
    """Symbols by id, "" for an id that has none, and the rules of the texts that they write.

    ``silent`` are the ids that stand for no text: the ``blank``, and what a published checkpoint has beside it (the
    ``unknown``, beginning, end). ``word_delimiter`` is the id between words, None in a subword vocabulary, whose
    symbols mark the beginning of a word by ``▁``, and in one of a language without spaces. ``subwords`` is the
    tokenizer.json of a subword vocabulary, "" for characters. It pickles.
    """

    symbols: tuple[str, ...]
    rules: TextRules
    blank: int = 0
    unknown: int | None = None
    word_delimiter: int | None = None
    silent: frozenset[int] = frozenset()
    subwords: str = field(default="", repr=False)

    @property
    def size(self) -> int:
        """Outputs of a head for this vocabulary."""
        return len(self.symbols)

    @property
    def is_subword(self) -> bool:
        """True where a symbol is a piece of a word rather than a character."""
        return bool(self.subwords)

    @property
    def delimiter(self) -> str:
        """The symbol between words; ``|`` where the vocabulary has none, which then stands nowhere."""
        return DELIMITER if self.word_delimiter is None else self.symbols[self.word_delimiter]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, under the rules; they spell it without blanks between equal letters.

        Punctuation that the vocabulary has not is dropped. Raises DataError("unknown_letters") where it lacks a letter,
        a digit or a mark on a letter.
        """
        text = self.rules.apply(text)
        ids = self._ids(text)
        if ids is None and (ids := self._ids(self._writable(text))) is None:
            # A published tokenizer whose own normalizer made of known letters what its pieces do not spell.
            raise DataError("unknown_letters", printable(text))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids without repeats and blanks, as plain transformers returns it.

        Ids that stand for no text are left out; where the network says two delimiters there are two spaces.
        """
        spoken = [int(one) for one in ids if int(one) not in self._mute]
        if self._backend:
            return self._backend.decode(spoken, skip_special_tokens=False)
        return "".join(map(self._texts.__getitem__, spoken)).strip()

    def collapse(self, argmax_T: NDArray[np.int64]) -> list[int]:
        """Return what the likeliest symbol of each position says: repeats are one, blanks are none."""
        changed_T = np.ones(len(argmax_T), bool)
        changed_T[1:] = argmax_T[1:] != argmax_T[:-1]
        kept: list[int] = argmax_T[changed_T & (argmax_T != self.blank)].tolist()
        return kept

    def unknown_in(self, text: str) -> set[str]:
        """Return the characters of a text, under the rules, that the vocabulary cannot write in any spelling."""
        lacking = {one for one in set(self.rules.apply(text)) if not self._spelled(one)}
        return {one for one in lacking if not any(map(self._writes, alternatives(one)))}

    @cached_property
    def letters(self) -> frozenset[str]:
        """All single characters that it writes, without the space."""
        return frozenset(one for one in self._id_of if len(one) == 1) - {" "}

    @cached_property
    def _mute(self) -> frozenset[int]:
        return self.silent | {self.blank}

    @cached_property
    def _texts(self) -> list[str]:
        """Text of each id of a character vocabulary."""
        return [" " if index == self.word_delimiter else symbol for index, symbol in enumerate(self.symbols)]

    @cached_property
    def _id_of(self) -> dict[str, int]:
        named = {one: index for index, one in enumerate(self.symbols) if one and index not in self._mute}
        if self.is_subword:
            named.pop(WORD_START, None)
        elif self.word_delimiter is not None:
            named.pop(self.symbols[self.word_delimiter], None)
            named[" "] = self.word_delimiter
        return named

    @cached_property
    def _pieces(self) -> re.Pattern[str] | None:
        """Pattern that finds a published vocabulary's symbols of several characters, the longest first."""
        several = sorted((one for one in self._id_of if len(one) > 1), key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, several), "."]), re.S) if several and not self.subwords else None

    @cached_property
    def _backend(self) -> Tokenizer | None:
        """The tokenizer that decodes subwords."""
        if not self.subwords:
            return None
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.subwords)

    @cached_property
    def _encoder(self) -> Tokenizer | None:
        """The tokenizer that encodes subwords, which knows no markup: ``<pad>`` in a text is text."""
        if not self.subwords:
            return None
        from tokenizers import Tokenizer

        plain: JsonObject = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        return Tokenizer.from_str(json.dumps({**json.loads(self.subwords), **plain}))

    def _ids(self, text: str) -> list[int] | None:
        """Return the ids of a text under the rules, or None where they do not spell it."""
        if self._encoder:
            return self._subword_ids(self._encoder, text)
        units: Iterable[str] = self._pieces.findall(text) if self._pieces else text
        try:
            return [self._id_of[one] for one in units]
        except KeyError:
            return None

    def _subword_ids(self, encoder: Tokenizer, text: str) -> list[int] | None:
        if not text:
            return []
        ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        if not self._mute.isdisjoint(ids) or self._lacks(text):
            return None
        return ids

    def _lacks(self, text: str) -> bool:
        """Return whether a subword vocabulary lacks a character; there are tokenizers that say nothing then."""
        return not all(map(self._spelled, set(text)))

    def _spelled(self, character: str) -> bool:
        if character == " ":
            return self.is_subword or self.word_delimiter is not None
        return character in self.letters or (self._encoder is not None and self._normalized(character))

    def _normalized(self, character: str) -> bool:
        """Return whether the tokenizer's own normalizer makes of a character what its pieces spell."""
        normalizer = self._encoder.normalizer if self._encoder else None
        return normalizer is not None and self.letters.issuperset(
            normalizer.normalize_str(character).strip(WORD_START + " ")
        )

    def _writable(self, text: str) -> str:
        """Return a text without what the vocabulary cannot write. Raises DataError where that is a letter."""
        lacking = sorted(one for one in set(text) if one != " " and not self._spelled(one))
        spelled: dict[str, str | int | None] = {
            one: other for one in lacking for other in alternatives(one)[::-1] if self._writes(other)
        }
        lacking = [one for one in lacking if one not in spelled]
        if letters := [one for one in lacking if is_spoken(one)]:
            more = f" and {len(letters) - _LONGEST_LIST} more" if len(letters) > _LONGEST_LIST else ""
            raise DataError("unknown_letters", " ".join(map(named, letters[:_LONGEST_LIST])) + more)
        text = without(text, set(lacking)).translate(str.maketrans(spelled))
        if self.is_subword:
            for symbol in filter(None, (self.symbols[index] for index in self._mute)):
                text = text.replace(symbol, " ")
        elif self.word_delimiter is None:
            text = text.replace(" ", "")
        return " ".join(text.split())

    def _writes(self, text: str) -> bool:
        return all(map(self._spelled, text))


def named(character: str) -> str:
    """Return a character for a message: itself, with its number where it hardly shows alone."""
    return character if character.isalnum() else f"{printable(character)} (U+{ord(character):04X})"


def characters(texts: Iterable[str], rules: TextRules) -> set[str]:
    """Return the characters of texts under the rules; those of parts of a data set can be united."""
    found: set[str] = set()
    for text in texts:
        found.update(rules.apply(text))
    return found


def character_vocabulary(texts: Iterable[str], rules: TextRules) -> CtcVocabulary:
    """Return the vocabulary of all characters of texts, in the order of their code points; the blank is id 0.

    A language without spaces gets a delimiter only where its texts have one. Raises UserError where no text has a
    character.
    """
    found = characters(texts, rules)
    letters = sorted(found - {" "})
    if not letters:
        raise UserError("the transcripts have no letters to make a vocabulary of", "are they the right column?")
    spaced = " " in found or rules.language not in UNSPACED
    symbols = (PAD, UNKNOWN, *([DELIMITER] if spaced else []), *letters)
    return CtcVocabulary(symbols, rules, 0, 1, 2 if spaced else None, frozenset({0, 1}))


def subword_vocabulary(texts: Iterable[str], rules: TextRules, size: int) -> CtcVocabulary:
    """Return a vocabulary of at most ``size`` symbols: pieces of words by byte-pair encoding, the blank is id 0.

    The same texts make the same one in any order. Raises UserError where ``size`` has no room for the characters.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    # Parted, or else a merge could make of its characters the symbol that stands for no text.
    ruled = (rules.apply(text).replace(PAD, "< pad >").replace(UNKNOWN, "< unk >") for text in texts)
    first = next(filter(None, ruled), "")
    if not first:
        raise UserError("the transcripts have no letters to make a vocabulary of", "are they the right column?")
    # BPE, not Unigram: what no merge makes, no text spells, so <pad> in a transcript is letters between brackets; and
    # it has no sums of floating point numbers, whose order depends on the machine.
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(WORD_START, "always")
    tokenizer.decoder = decoders.Metaspace(WORD_START, "always")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, UNKNOWN], initial_alphabet=[WORD_START], show_progress=False
    )
    tokenizer.train_from_iterator(chain([first], ruled), trainer)
    if (found := tokenizer.get_vocab_size()) > size:
        raise UserError(
            f"a vocabulary of {size} symbols has no room for the characters of the transcripts: they need {found}",
            f"take {found} or more, or a vocabulary of characters",
        )
    symbols = tuple(str(tokenizer.id_to_token(index)) for index in range(found))
    return CtcVocabulary(symbols, rules, 0, 1, None, frozenset({0, 1}), tokenizer.to_str())
