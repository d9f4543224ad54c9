"""The recipe's trainer under observation: its time without evaluations and pauses, its speech, its word error rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import Seq2SeqTrainer, TrainerCallback

from asr.data.manifest import read_manifest
from asr.parsed import JsonObject
from asr.scoring.error_rates import score
from benchmarks.recipe.work import Clock, Work, say, wait_for_word

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

Collator = Callable[[list[JsonObject]], dict[str, torch.Tensor]]


@dataclass
class Course:
    """Measurements of the recipe while it runs."""

    work: Work
    clock: Clock
    begun_s: float = 0.0
    last_s: float = 0.0
    wait_s: float = 0.0
    evaluating: bool = False
    audio_s: list[float] = field(default_factory=list)
    """Seconds of speech in each training batch; the loader is one batch ahead."""
    saved_s: dict[int, float] = field(default_factory=dict)
    """The clock at each checkpoint."""
    wer: dict[int, float] = field(default_factory=dict)
    """On the validation split, at each checkpoint."""
    heard: list[str] = field(default_factory=list)
    """The transcripts of the latest evaluation."""

    def score(self, split: str) -> JsonObject:
        """Score the latest evaluation as ours is scored."""
        clips = read_manifest(Path(self.work.manifests[split]))
        rate = score([clip.text for clip in clips], self.heard, "normalised", self.work.language)
        return {"wer": rate.rate, "wer_low": rate.low, "wer_high": rate.high}

    def result(self, prepared_s: float, feature_bytes: int) -> JsonObject:
        """Return the figures of the training."""
        steps, end_s = self.work.steps, max(self.saved_s.values(), default=self.last_s)
        return {
            "steps": steps,
            "utterances": steps * self.work.clips_per_step,
            "audio_s": sum(self.audio_s[:steps]),
            "train_s": end_s - self.begun_s,
            "wait_s": self.wait_s,
            "prepare_s": prepared_s,
            "startup_s": self.begun_s,
            "feature_bytes": feature_bytes,
            "curve": [{"step": step, "wall_s": self.saved_s[step], "wer": rate} for step, rate in self.wer.items()],
        }


@dataclass
class Counting:
    """The course's collator, and beside it the seconds of speech of each training batch."""

    collator: Collator
    course: Course

    def __call__(self, features: list[JsonObject]) -> dict[str, torch.Tensor]:
        if not self.course.evaluating:
            self.course.audio_s.append(sum(row["input_length"] for row in features))
        return self.collator(features)


class CourseTrainer(Seq2SeqTrainer):
    """Transformers' trainer; evaluation does not count as training time."""

    def __init__(self, course: Course, **arguments: object) -> None:
        super().__init__(**arguments)
        self._course = course

    def evaluate(self, *args: object, **kwargs: object) -> dict[str, float]:
        """Evaluate with the clock stopped."""
        say("phase", name="evaluating")
        self._course.evaluating = True
        with self._course.clock.stopped():
            figures = super().evaluate(*args, **kwargs)
        self._course.evaluating = False
        say("phase", name="training")
        return dict(figures)


class Reporting(TrainerCallback):
    """Keeps the time of each step, and stands still where the benchmark has the other side train."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Count the wait for the batch, then pause where that is due."""
        course = self._course
        if state.global_step:
            course.wait_s += course.clock.seconds - course.last_s
        if state.global_step in course.work.pauses:
            with course.clock.stopped():
                wait_for_word()
        if not state.global_step:
            course.begun_s = course.clock.seconds

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Note the time: what follows until the next step is a wait for data, but for what happens below."""
        self._course.last_s = self._course.clock.seconds

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Tell the loss."""
        if logs and "loss" in logs:
            say("step", step=state.global_step, steps=state.max_steps, loss=logs["loss"])
        self._course.last_s = self._course.clock.seconds

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Score the validation split."""
        course = self._course
        if state.global_step in course.wer:  # the test split, after training
            return
        with course.clock.stopped():
            course.wer[state.global_step] = course.score("validation")["wer"]
        say("wer", step=state.global_step, wer=course.wer[state.global_step])
        course.last_s = course.clock.seconds

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Note when the checkpoint was there."""
        self._course.last_s = self._course.saved_s[state.global_step] = self._course.clock.seconds
