"""Training, validation and test clips: no transcript in two of them, and the same ones on every machine."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from asr.errors import UserError
from asr.utterance import Utterance

STRATUM = 16  # transcripts of like length from which one is drawn before any second one


@dataclass(frozen=True)
class Splits:
    """Utterances of the three splits, each list ordered by id."""

    train: list[Utterance]
    validation: list[Utterance]
    test: list[Utterance]


def transcript_key(utterance: Utterance) -> str:
    """Return the transcript's letters and digits, casefolded; without any, the id.

    Marks count as letters: in Thaana, Devanagari or Tamil they are the vowels.
    """
    text = unicodedata.normalize("NFKC", utterance.text).casefold()
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN") or f"id:{utterance.id}"


def split(
    utterances: Iterable[Utterance],
    *,
    validation_share: float,
    test_share: float,
    min_test_clips: int,
    seed: int,
    key: Callable[[Utterance], str] = transcript_key,
) -> Splits:
    """Deal clips into three splits such that those of one ``key`` stay together.

    A pure function of ids, keys and ``seed``: neither the order of the clips nor the machine matters. The keys are
    stratified by length, so that each split has short and long clips in like proportion. The test split gets
    about ``test_share`` of the clips, and at least ``min_test_clips``. Raises UserError if no training clips remain.
    """
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[key(utterance)].append(utterance)
    clips = sum(map(len, groups.values()))
    order = _stratified(list(groups), seed)
    test = _take(order, groups, max(min_test_clips, round(test_share * clips)), at_least=min_test_clips)
    validation = _take([k for k in order if k not in test], groups, round(validation_share * clips))
    train = set(groups) - test - validation
    if not train:
        raise UserError(
            f"{clips} clips of {len(groups)} different transcripts are too few: min_test_clips={min_test_clips}, "
            f"test_share={test_share:g} and validation_share={validation_share:g} leave none to train on",
            "lower these settings or add data",
        )
    return Splits(
        *(sorted((u for k in keys for u in groups[k]), key=lambda u: u.id) for keys in (train, validation, test))
    )


def _stratified(keys: list[str], seed: int) -> list[str]:
    """Order keys such that every prefix of them holds short and long ones in like proportion."""
    draw = {key: hashlib.sha256(f"{seed}\0{key}".encode()).digest() for key in keys}
    by_length = sorted(keys, key=lambda k: (len(k), draw[k]))
    ranked: list[tuple[int, bytes, str]] = []
    for start in range(0, len(by_length), STRATUM):
        stratum = sorted(by_length[start : start + STRATUM], key=draw.__getitem__)
        ranked += [(rank, draw[k], k) for rank, k in enumerate(stratum)]
    return [k for _, _, k in sorted(ranked)]


def _take(order: list[str], groups: dict[str, list[Utterance]], clips: int, at_least: int = 0) -> set[str]:
    """Take keys that fit into ``clips``; then, if ``at_least`` is not reached, the smallest that do not fit."""
    taken: set[str] = set()
    count = 0
    for key in order:
        if count + len(groups[key]) <= clips:
            taken.add(key)
            count += len(groups[key])
    for key in sorted((k for k in order if k not in taken), key=lambda k: len(groups[k])):
        if count >= at_least:
            break
        taken.add(key)
        count += len(groups[key])
    return taken
