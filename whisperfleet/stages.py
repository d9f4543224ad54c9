"""Stages of the demo on real speech, in order; each is a verb or a public function."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.audio.features import Context
from asr.data.manifest import read_manifest
from asr.data.sources import SourceConfig
from asr.errors import UserError
from asr.language import name
from asr.models.artifact import CARD, Card, load_model, read_card, record_evaluations
from asr.models.checkpoint import find_checkpoint
from asr.models.family import best_device
from asr.parsed import JsonObject
from asr.scoring.evaluation import Evaluation
from asr.scoring.report import duration, percent, with_interval, write_report
from asr.utterance import Utterance
from train.checkpoints.run_folder import RunFolder
from train.config import TrainConfig
from train.console import counting, training
from train.data.prepare import PrepareConfig, Prepared, Row, prepare
from train.data.splits import given_splits, rows_of
from train.evaluation.offline import evaluate
from train.run.fit import fit
from whisperfleet.ask import EndpointAnswer, ask
from whisperfleet.comparison import KindsCompared, compare_kinds

SERVED_CLIPS = 8

out = Console(highlight=False, markup=False, soft_wrap=True)  # transcripts and paths may hold [brackets]


@dataclass(frozen=True)
class DemoOutcome:
    """Results of the demo's stages."""

    before: Evaluation
    short: Evaluation
    full: Evaluation
    training: JsonObject
    answers: Sequence[EndpointAnswer]
    artifact: Path
    report: Path
    kinds: KindsCompared | None = None

    def line(self) -> dict[str, object]:
        """Return the figures for machines: error rates are shares, times seconds."""
        rates = {"wer_before": self.before, "wer_after_short": self.short, "wer_after_full": self.full}
        return {
            **{name: round(one.wer.rate, 4) for name, one in rates.items()},
            **{f"{name}_ortho": round(one.wer_ortho.rate, 4) for name, one in rates.items()},
            "test_clips": len(self.full.results),
            "train_seconds": round(self.training["seconds"], 1),
            "train_audio_s_per_s": round(self.training["audio_s"] / self.training["seconds"], 2),
            "eval_seconds_short": round(self.short.seconds, 1),
            "eval_seconds_full": round(self.full.seconds, 1),
            "served_ok": bool(self.answers) and all(answer.text is not None for answer in self.answers),
            "artifact": str(self.artifact.resolve()),
            "report": str(self.report.resolve()),
            **(self.kinds.line() if self.kinds else {}),
        }


class Announcer:
    """Announces the stages of a demo, each with its number."""

    def __init__(self, stages: int) -> None:
        self._stages, self._done = stages, 0

    def __call__(self, what: str) -> None:
        """Announce the next stage."""
        self._done += 1
        out.print(Text.assemble((f"[{self._done}/{self._stages}]", "bold"), f" {what}"))


def whole_way(config: TrainConfig, folder: Path, manifest: str, other: TrainConfig | None = None) -> DemoOutcome:
    """Go through the stages of a demo in its folder; what an interrupted one had done there is not done again.

    With ``other`` a second kind of model is trained on the same speech, and compared with the first.
    """
    started = time.monotonic()
    stage = Announcer(9 if other else 7)
    stage(f"weights: {config.base}")
    checkpoint = find_checkpoint(config.base)
    out.print(f"      {checkpoint.digest}\n      {checkpoint.folder}")
    stage(f"speech: {manifest}")
    prepared = prepare_speech(manifest, folder / "data")
    test = read_manifest(prepared.manifests["test"])
    stage(f"WER before, on {len(test)} clips that training never sees, each padded to 30 s")
    before = measured(folder / "before.json", config.base, test, "full", config.language)
    stage(f"fine-tune: {config.optim.max_steps} steps in {folder} (Ctrl-C, and the same command goes on)")
    artifact = fine_tune(config)
    stage("WER after, at the clips' own length and padded to 30 s")
    short = measured(folder / "after-short.json", str(artifact), test, "short", config.language)
    full = measured(folder / "after-full.json", str(artifact), test, "full", config.language)
    report = record(artifact, before, short, full)
    stage("serve the artifact, and ask it over HTTP")
    answers = ask(str(artifact), spread(test), lambda model: out.print(f"      {model.computed}"))
    show_answers(answers)
    kinds = None
    if other:
        stage(f"a CTC head on the same encoder: {other.optim.max_steps} steps in {RunFolder.of(other).uri}")
        second = fine_tune(other)
        stage("both models on the clips that neither has seen")
        kinds = compare_kinds(artifact, second, test, config.language, folder.with_name(f"{folder.name}-comparison"))
        out.print(f"      report: {kinds.report}")
    outcome = DemoOutcome(before, short, full, read_card(artifact).training, answers, artifact, report, kinds)
    stage(f"done in {duration(time.monotonic() - started)}")
    show_outcome(outcome)
    return outcome


def prepare_speech(spec: str, folder: Path) -> Prepared:
    """Write the manifests of the demo's speech, in its own splits, or in one that is the same every time.

    Raises UserError where a source that comes with splits has none to train on, or none to measure on.
    """
    with counting("decoding") as advance:
        prepared = prepare(_rows(spec), folder, PrepareConfig(), advance)
    minutes = {name: hours * 60 for name, hours in prepared.hours.items()}
    splits = ", ".join(f"{name} {count} ({minutes[name]:.0f} min)" for name, count in prepared.clips.items())
    out.print(f"      clips: {splits}\n      in quarantine: {prepared.reasons}")
    return prepared


def _rows(spec: str) -> Iterable[Row] | Mapping[str, Iterable[Row]]:
    read = SourceConfig(source=spec)
    given = given_splits(read)
    if not given:
        return rows_of(read)
    if not {"train", "test"} <= given.keys():
        raise UserError(f"{spec}: its splits are {', '.join(given)}", "name the files of one: the demo deals its rows")
    return {name: rows_of(given[name]) for name in ("train", "test")}


def measured(kept: Path, model: str, test: Sequence[Utterance], context: Context, language: str | None) -> Evaluation:
    """Evaluate, or return what an interrupted demo had already measured of this model on these clips."""
    evaluation = Evaluation.load(kept) if kept.is_file() else None
    if evaluation is None or not same_question(evaluation, model, test, language):
        with counting("transcribing") as advance:
            done = evaluate(load_model(model, best_device()), test, context, language, advance)
        evaluation = done.evaluation
        evaluation.save(kept)
        for row in done.quarantined:
            out.print(f"      not evaluated: {row.id}: {row.reason} {row.detail}")
    out.print(
        f"      {context}: WER {with_interval(evaluation.wer)}, "
        f"orthographic {percent(evaluation.wer_ortho.rate)}, in {evaluation.seconds:.0f} s"
    )
    return evaluation


def same_question(kept: Evaluation, model: str, test: Sequence[Utterance], language: str | None) -> bool:
    """Return whether a kept evaluation is of this model, in this language, on these clips and transcripts."""
    said = {utterance.id: utterance.text for utterance in test}
    known = {result.id: result.reference for result in kept.results}
    return (kept.checkpoint, kept.language, known) == (model, language, said)


def fine_tune(config: TrainConfig) -> Path:
    """Return the run's artifact, training it or going on from its last checkpoint."""
    artifact = Path(RunFolder.of(config).artifact)
    if not (artifact / CARD).is_file():
        with training() as on_progress:
            fit(config, on_progress)
    totals = read_card(artifact).training
    out.print(f"      {duration(totals['seconds'])}, {totals['audio_s'] / totals['seconds']:.1f} audio s/s: {artifact}")
    return artifact


def record(artifact: Path, before: Evaluation, short: Evaluation, full: Evaluation) -> Path:
    """Put the figures into the artifact's card, and write table and report beside the artifact."""
    labelled = {"before, padded to 30 s": before, "after, own length": short, "after, padded to 30 s": full}
    card = record_evaluations(artifact, [{"label": label, **one.summary()} for label, one in labelled.items()])
    short.write_table(artifact.parent / "utterances.csv")
    report = artifact.parent / "report.html"
    details = {"base": card.base.name, "base digest": card.base.digest, **card.versions}
    write_report(report, [before, full, short], f"Whisper fine-tuned for {_spoken(card)}", details)
    out.print(f"      report: {report}")
    return report


def _spoken(card: Card) -> str:
    return name(card.language) if card.language else "many languages"


def spread(test: Sequence[Utterance]) -> list[Utterance]:
    """Return clips of all lengths, evenly spread over the test set sorted by duration."""
    by_length = sorted(test, key=lambda utterance: utterance.duration_s or 0.0)
    step = max(1, len(by_length) // SERVED_CLIPS)
    return by_length[step - 1 :: step][:SERVED_CLIPS]


def show_answers(answers: Sequence[EndpointAnswer]) -> None:
    """Print the endpoint's transcripts beside the references."""
    table = Table("reference", "transcript", "s")
    for answer in answers:
        text = answer.text if answer.text is not None else Text(answer.error, "red")
        table.add_row(answer.reference, text, f"{answer.seconds:.1f}")
    out.print(table)


def show_outcome(outcome: DemoOutcome) -> None:
    """Print the closing table."""
    table = Table("", "WER", "95 % interval", "orthographic", "decoding")
    rows = {
        "before, padded to 30 s": outcome.before,
        "after, padded to 30 s": outcome.full,
        "after, own length": outcome.short,
    }
    for label, one in rows.items():
        interval = f"{percent(one.wer.low)} to {percent(one.wer.high)}"
        table.add_row(label, percent(one.wer.rate), interval, percent(one.wer_ortho.rate), f"{one.seconds:.0f} s")
    out.print(table)
