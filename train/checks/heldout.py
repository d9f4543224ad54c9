"""Step of `check` that decodes the clips a run is scored on: unreadable ones are known before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from asr.audio.decode import AudioLimits
from asr.audio.sandbox import decode_utterances
from asr.audio.silence import require_sound
from asr.data.batches import batches
from asr.errors import DataError, UserError
from asr.scoring.error_rates import has_words
from asr.utterance import Quarantined, Utterance
from train.checks.subject import CheckOutcome, Subject
from train.evaluation.schedule import sample

MOST_CLIPS = 64  # decoded of each set: all of what is scored, unless evaluation.sample_clips is raised


def audio(subject: Subject) -> CheckOutcome:
    """Check that the scored clips of data.validation and data.retention can be decoded and are not silent."""
    if not subject.held_out:
        return CheckOutcome("skipped", "neither data.validation nor data.retention is set")
    config = subject.config
    decoded, warnings, unusable = [], [], []
    for key, rows in subject.held_out.items():
        spoken = [row for row in rows.utterances if has_words(row.text)]
        if not spoken:
            raise UserError(f"{key} has no utterance with a transcript", "whisperfleet data inspect says more")
        clips = sample(spoken, config.evaluation.sample_clips, config.seed)[:MOST_CLIPS]
        faults = _faults(clips, subject.processor.window_s)
        if len(faults) > config.data.max_quarantined_share * len(clips):
            unusable.append((key, f"{len(faults)} of {len(clips)} clips of {key} cannot be evaluated: {_told(faults)}"))
        decoded.append(f"{len(clips) - len(faults)} of {len(clips)} clips of {key} decoded")
        warnings += [f"{key}: {_told(faults)}"] if faults else []
    if unusable:
        told = "; ".join(detail for _, detail in unusable)
        raise UserError(
            f"{told}; over data.max_quarantined_share={config.data.max_quarantined_share:g}",
            f"mend {' and '.join(key for key, _ in unusable)}, or raise data.max_quarantined_share",
        )
    if warnings:
        return CheckOutcome("warning", "; ".join([*decoded, *warnings]), "they are left out of the word error rate")
    return CheckOutcome("ok", ", ".join(decoded))


def _faults(clips: Sequence[Utterance], window_s: float) -> list[Quarantined]:
    faults = []
    for batch in batches(clips):
        for clip, sound in zip(batch, decode_utterances(batch, AudioLimits(max_audio_s=window_s)), strict=True):
            try:
                if isinstance(sound, DataError):
                    raise sound
                require_sound(sound)
            except DataError as error:
                faults.append(Quarantined(clip.id, error.reason, error.detail))
    return faults


def _told(faults: Sequence[Quarantined]) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in faults).most_common())
    return f"{counts}, such as '{faults[0].id}'" + (f" ({faults[0].detail})" if faults[0].detail else "")
