"""Explains a word error rate: the kinds of errors, and the usual causes of high rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fontTools.unicodedata import script, script_name

from asr import language
from asr.scoring.characters import ANY_SCRIPT
from asr.scoring.evaluation import Evaluation
from asr.scoring.repetition import MAX_COMPRESSION_RATIO, compression_ratio

_HIGH = 0.5  # from here on something is wrong, rather than not yet learnt
_SHOWN = 3


def explain(evaluation: Evaluation) -> list[str]:
    """Return a line on the kinds of errors and, where the rate is high, a line for each cause that can be seen."""
    counts = evaluation.wer.counts
    said = f"{counts.substitutions} words substituted, {counts.deletions} left out, {counts.insertions} put in"
    lines = [f"of {counts.reference_length} words in the references: {said}"]
    if evaluation.wer.rate < _HIGH:
        return lines
    return [*lines, *filter(None, (_loops(evaluation), _scripts(evaluation), _silent(evaluation), _spaces(evaluation)))]


def _loops(evaluation: Evaluation) -> str:
    """Whisper repeats itself where it is unsure: one loop puts in hundreds of words, and the rate goes over 100 %."""
    pairs = list(zip(evaluation.results, evaluation.scored, strict=True))
    loops = [pair for pair in pairs if compression_ratio(pair[0].hypothesis) > MAX_COMPRESSION_RATIO]
    if not loops:
        return ""
    everything = evaluation.wer.counts.insertions
    share = sum(scored.words.insertions for _, scored in loops) / everything if everything else 0.0
    ids = _some(one.id for one, _ in loops)
    return f"text that repeats itself in {len(loops)} of {len(pairs)} clips, {share:.0%} of the words put in: {ids}"


def _scripts(evaluation: Evaluation) -> str:
    given = _script(one.reference for one in evaluation.results)
    transcribed = _script(one.hypothesis for one in evaluation.results)
    if not given or not transcribed or given == transcribed:
        return ""
    asked = f"language '{evaluation.language}' was asked for" if evaluation.language else "the language was detected"
    return f"transcripts are in {transcribed} letters, references in {given}: {asked}, see --language"


def _silent(evaluation: Evaluation) -> str:
    silent = [one.id for one in evaluation.results if not one.hypothesis.strip()]
    if len(silent) < len(evaluation.results) / 10:
        return ""
    return f"nothing was transcribed in {len(silent)} of {len(evaluation.results)} clips: {_some(silent)}"


def _spaces(evaluation: Evaluation) -> str:
    if evaluation.language not in language.UNSPACED:
        return ""
    return f"{language.name(evaluation.language)} is written without spaces, a sentence is one word: read the CER"


def _script(texts: Iterable[str]) -> str:
    """Return the script of most letters, by Unicode's name: Latin, Thaana ..."""
    letters = Counter(letter for text in texts for letter in text if letter.isalpha())
    scripts: Counter[str] = Counter()
    for letter, number in letters.items():
        if (code := script(letter)) not in ANY_SCRIPT:
            scripts[code] += number
    return script_name(scripts.most_common(1)[0][0]) if scripts else ""


def _some(ids: Iterable[str]) -> str:
    names = list(ids)
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
