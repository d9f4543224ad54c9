"""From emissions to symbols: the likeliest of each position, or a beam search with n-grams and hot words.

A language model lies beside the vocabulary it is spelled with: n-grams of words and of symbols in the ARPA format, and
what they weigh.

Legend: T positions, V symbols.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError, UserError, one_line
from asr.models.ctc.beam_search import beam_search, together
from asr.models.ctc.hot_words import HotWords
from asr.models.ctc.language_model import LanguageModel, Weights, train_language_model
from asr.models.ctc.ngram import BEGIN, END, UNKNOWN, NgramModel
from asr.models.ctc.spelling import Spelling
from asr.models.ctc.vocabulary import CtcVocabulary
from asr.models.head import MOST_WEIGHT, HeadSettings
from asr.printable import printable

SETTINGS, WORDS, SYMBOLS = "language_model.json", "lm_words.arpa", "lm_symbols.arpa"
LANGUAGE_MODEL = (SETTINGS, WORDS, SYMBOLS)
"""Files of a language model, as far as there is one."""

_MOST_HOT = 64  # lists of hot words that are kept ready


@dataclass(frozen=True)
class CtcDecoder:
    """Decoder of a vocabulary's emissions, by a ``language_model`` where there is one. It is for one thread."""

    vocabulary: CtcVocabulary
    language_model: LanguageModel | None = field(default=None, repr=False)

    def decode(self, logprobs_TV: NDArray[np.float32], keywords: Sequence[str] = ()) -> list[int]:
        """Return the ids of what is said, without blanks and repeats. ``keywords`` are heard where sound allows them.

        Those that the vocabulary cannot spell are passed over: no sound makes it write them.
        """
        if self.language_model is None and not keywords:
            return self.vocabulary.collapse(logprobs_TV.argmax(1))
        states = [self.language_model.start() if self.language_model else None]
        if keywords:
            states.append(self._hot(tuple(keywords)).start())
        (best,) = beam_search(logprobs_TV, self.vocabulary.blank, together(states))
        return list(best.tokens)

    @cached_property
    def _spelling(self) -> Spelling:
        return spelling_of(self.vocabulary)

    @cached_property
    def _hot(self):  # type: ignore[no-untyped-def]  # lru_cache keeps no types
        return lru_cache(_MOST_HOT)(self._hot_words)

    def _hot_words(self, keywords: tuple[str, ...]) -> HotWords:
        return HotWords(self._spelled(keywords), self._spelling)

    def _spelled(self, keywords: Sequence[str]) -> Iterable[str]:
        """Yield those that the vocabulary can write, as it writes them."""
        for phrase in keywords:
            with suppress(DataError):
                yield self.vocabulary.decode(self.vocabulary.encode(phrase))


def spelling_of(vocabulary: CtcVocabulary) -> Spelling:
    """Return the texts that a vocabulary's symbols write, as n-grams and hot words read them."""
    return Spelling(vocabulary.symbols, vocabulary.word_delimiter, vocabulary.silent | {vocabulary.blank})


def write_language_model(folder: Path, vocabulary: CtcVocabulary, texts: Iterable[str], settings: HeadSettings) -> None:
    """Write the n-grams of transcripts into a folder; those of words are ``settings.language_model``'s if it is a file.

    Transcripts that the vocabulary cannot write are left out. Raises UserError for a file that is no ARPA file.
    """
    sentences = list(_encoded(vocabulary, texts))
    model = train_language_model(sentences, spelling_of(vocabulary))
    if sentences and model.symbols is not None:
        model.symbols.write(folder / SYMBOLS)
    if settings.is_own_language_model:
        path = _own_file(settings)
        NgramModel.read(path)
        shutil.copyfile(path, folder / WORDS)
    elif model.words is not None:
        model.words.write(folder / WORDS)
    told = {"weight": settings.language_weight, "word_bonus": settings.word_bonus}
    (folder / SETTINGS).write_text(json.dumps(told, indent=2), encoding="utf-8")


def how_it_decodes(settings: HeadSettings, transcripts_known: bool) -> str:
    """Return in words by what an artifact of these settings decodes."""
    if not settings.has_language_model(transcripts_known):
        why = "" if settings.language_model == "none" else ", as n-grams are not made of a stream"
        return f"there are none{why}: each position says its likeliest symbol"
    whose = settings.language_model if settings.is_own_language_model else "the training transcripts"
    weights = f"ctc.language_weight={settings.language_weight:g}, ctc.word_bonus={settings.word_bonus:g}"
    return f"the artifact decodes by n-grams of {whose}: {weights}"


def load_decoder(folder: Path, vocabulary: CtcVocabulary) -> CtcDecoder:
    """Load the decoder of a checkpoint's folder. Raises UserError where its language model is damaged or not whole."""
    path = folder / SETTINGS
    if not path.is_file():
        return CtcDecoder(vocabulary)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        weights = Weights(float(told["weight"]), float(told["word_bonus"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__})", "copy the artifact anew") from None
    if not (0 <= weights.alpha <= MOST_WEIGHT and -MOST_WEIGHT <= weights.beta <= MOST_WEIGHT):  # nor is NaN
        what = f"{path}: its weight is no number from 0 to {MOST_WEIGHT}, or its word_bonus is beyond {MOST_WEIGHT}"
        raise UserError(what, "copy the artifact anew")
    spelling = spelling_of(vocabulary)
    words = NgramModel.read(folder / WORDS) if spelling.has_words else None
    symbols = NgramModel.read(folder / SYMBOLS) if (folder / SYMBOLS).is_file() or words is None else None
    return CtcDecoder(vocabulary, LanguageModel(spelling, symbols, words, weights))


def require_language_model(settings: HeadSettings) -> None:
    """Raise UserError where the file that is to be the language model is missing or no ARPA file."""
    if settings.is_own_language_model:
        path = _own_file(settings)
        if not path.is_file():
            what = f"ctc.language_model={settings.language_model}: no such file, and neither auto, transcripts nor none"
            raise UserError(what, "give one of these, or the path of an ARPA file of words, as KenLM's lmplz writes")
        NgramModel.read(path)


def require_words(settings: HeadSettings, vocabulary: CtcVocabulary) -> None:
    """Raise UserError where a vocabulary does not write most words of the file that is to be the language model.

    One without spaces writes none; one of another letter case would take all for unknown.
    """
    if not settings.is_own_language_model:
        return
    if not spelling_of(vocabulary).has_words:
        what = f"ctc.language_model={settings.language_model} is of words, and the vocabulary has no space between them"
        raise UserError(what, "use transcripts, auto or none")
    words = [ngram[0] for ngram in NgramModel.read(_own_file(settings)).logs if len(ngram) == 1]
    foreign = [word for word in words if word not in (BEGIN, END, UNKNOWN) and not _writes(vocabulary, word)]
    if 2 * len(foreign) > len(words):
        what = (
            f"ctc.language_model={settings.language_model}: the vocabulary does not write {len(foreign)} of its words"
        )
        raise UserError(
            f"{what}, such as '{printable(foreign[0], 40)}'", "is it of this language, in this letter case?"
        )


def _writes(vocabulary: CtcVocabulary, word: str) -> bool:
    return vocabulary.rules.apply(word) == word and not vocabulary.unknown_in(word)


def _own_file(settings: HeadSettings) -> Path:
    try:
        return Path(settings.language_model).expanduser()
    except RuntimeError as error:  # of a user who is none
        raise UserError(f"ctc.language_model={settings.language_model}: {one_line(error)}", "give its path") from None


def _encoded(vocabulary: CtcVocabulary, texts: Iterable[str]) -> Iterable[Sequence[int]]:
    for text in texts:
        try:
            ids = vocabulary.encode(text)
        except DataError:
            continue
        if ids:
            yield ids
