"""Our side: a run as `whisperfleet train` makes it, then the word error rate of each of its checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from peft import PeftModel
from safetensors.torch import load_file

from asr.audio.features import Context
from asr.config import resolve
from asr.data.manifest import read_manifest
from asr.models.artifact import load_model
from asr.models.checkpoint import find_checkpoint
from asr.models.family import SpeechModel, load_checkpoint
from asr.parsed import JsonObject
from asr.scoring.error_rates import Score
from asr.utterance import Utterance
from benchmarks.recipe.work import Clock, Work, say
from train.callbacks.checkpoint_report import STATE
from train.config import TrainConfig
from train.evaluation.offline import evaluate
from train.events import Progress
from train.run.fit import fit, training_data

_RUN = "run"


def main() -> None:
    """Train and evaluate as the work file says that is the first argument."""
    work, clock = Work.read(Path(sys.argv[1])), Clock()
    say("phase", name="training")
    steps, utterances = steps_for(work.steps * work.clips_per_step, configuration(work, work.steps))
    starts: list[float] = []

    def tell(progress: Progress) -> None:
        starts.append(clock.seconds - progress.seconds)
        say("step", step=progress.step, steps=progress.max_steps, loss=progress.loss)

    fitted = fit(configuration(work, steps), tell)
    total_s = clock.seconds
    say("phase", name="evaluating")
    startup_s = min(starts)  # progress arrives up to a second late, never early
    training = fitted.card.training
    say(
        "result",
        steps=steps,
        utterances=utterances,
        audio_s=training["audio_s"],
        train_s=training["seconds"],
        wait_s=training["wait_s"],
        startup_s=startup_s,
        total_s=total_s,
        curve=curve(work, startup_s),
        **final(work, fitted.artifact),
    )


def configuration(work: Work, steps: int) -> TrainConfig:
    """Return the run's configuration: the work's figures, and for the rest what a user gets."""
    settings = [
        f"base={work.base}",
        f"language={work.language}",
        f"strategy={work.strategy}",
        f"seed={work.seed}",
        f"data.train={work.manifests['train']}",
        f"batching.max_clips={work.clips_per_step}",
        f"optim.learning_rate={work.learning_rate}",
        f"optim.max_steps={steps}",
        f"optim.warmup_steps={work.warmup_steps}",
        f"run.folder={work.folder}",
        f"run.name={_RUN}",
        f"run.checkpoint_every_steps={-(-steps * work.save_every_steps // work.steps)}",
        f"run.keep_checkpoints={steps}",
    ]
    return resolve(TrainConfig, None, [*settings, *work.settings]).value


def steps_for(utterances: int, config: TrainConfig) -> tuple[int, int]:
    """Return the fewest steps of a run that train on at least so many utterances, and how many these are."""
    sizes = (sum(len(batch.utterances) for batch in step) for step in training_data(config).corpus.steps(0))
    for number, met in enumerate(accumulate(sizes), start=1):
        if met >= utterances:
            return number, met
    raise AssertionError("a run's steps have no end")


def curve(work: Work, startup_s: float) -> list[dict[str, float]]:
    """Return step, seconds since the command was given and validation WER (short context) of each checkpoint."""
    clips = read_manifest(Path(work.manifests["validation"]))
    points: dict[int, dict[str, float]] = {}
    for path in sorted((Path(work.folder) / _RUN).rglob(STATE)):
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["step"] in points:  # the best checkpoint may lie there twice
            continue
        rate = wer(checkpoint(work, path.parent), clips, "short", work.language)
        say("wer", step=state["step"], wer=rate.rate)
        points[state["step"]] = {"step": state["step"], "wall_s": startup_s + state["seconds"], "wer": rate.rate}
    return [points[step] for step in sorted(points)]


def checkpoint(work: Work, folder: Path) -> SpeechModel:
    """Load one of the run's checkpoints."""
    model = load_checkpoint(find_checkpoint(work.base))
    if work.strategy == "full":
        model.network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)  # without the tied weights
        return model
    network = PeftModel.from_pretrained(model.network, str(folder), is_trainable=False).merge_and_unload()
    return replace(model, network=network.eval())


def final(work: Work, artifact: str) -> JsonObject:
    """Return the artifact's WER on the test split, at the clips' own length and padded to 30 s."""
    model, clips = load_model(artifact), read_manifest(Path(work.manifests["test"]))
    short, full = (wer(model, clips, context, work.language) for context in ("short", "full"))
    return {"wer": short.rate, "wer_low": short.low, "wer_high": short.high, "wer_full_context": full.rate}


def wer(model: SpeechModel, clips: Sequence[Utterance], context: Context, language: str) -> Score:
    """Return the normalised word error rate of a model."""
    return evaluate(model, clips, context, language).evaluation.wer


if __name__ == "__main__":
    main()
