"""The table of verbs. A verb's module, and with it torch or Ray, is imported when the verb is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from typer.core import TyperCommand, TyperGroup

from cluster import termination

if TYPE_CHECKING:
    from typer._click.core import Command, Context

# verb -> (module:function with its options, what it does), or the verbs of a group; ITSELF is what the group's own name
# does, followed by anything but one of its verbs
ITSELF = ""
Verb = tuple[str, str]
Table: TypeAlias = "Mapping[str, Verb | Table]"
VERBS: Table = {
    "demo": ("whisperfleet.demo:demo", "The whole way on real speech: WER before, fine-tune, WER after, serve, ask."),
    "recipe": ("whisperfleet.recipe:recipe", "Print a configuration to copy; without a name, list them."),
    "data": {
        "inspect": (
            "train.data.cli:inspect",
            "Hours, lengths, odd characters, duplicates, overlap and faults of a source.",
        ),
        "prepare": ("train.data.cli:prepare", "Make manifests and 16 kHz clips from a source of labelled speech."),
    },
    "align": (
        "train.alignment.cli:align",
        "When each given word is spoken; recordings over 30 s with their text, cut into labelled segments.",
    ),
    "check": (
        "train.checks.cli:check",
        "Look for what would spoil a training run, in seconds, before it begins.",
    ),
    "plan": (
        "train.capacity.cli:plan",
        "Memory, time and cost of each strategy on given GPUs: the cheapest.",
    ),
    "train": ("train.cli:train", "Fine-tune as a configuration file says; go on where an earlier run stopped."),
    "evaluate": ("train.cli:evaluate", "Word error rate, with intervals and a report, of a checkpoint or artifact."),
    "compare": (
        "train.evaluation.cli:compare",
        "Several models on one test set, side by side: errors, speed, memory.",
    ),
    "transcribe": ("serve.batch.cli:transcribe", "Write down what is said in files, folders, addresses; resumable."),
    "serve": {
        ITSELF: (
            "serve.cli:serve",
            "Run the transcription endpoint (OpenAI's audio API) on Ray Serve; `serve models` changes what it serves.",
        ),
        "models": {
            "list": ("serve.models.cli:list_models", "What each name stands for, what is loaded, who is asked."),
            "load": ("serve.models.cli:load", "Add a model under a new name."),
            "promote": (
                "serve.models.cli:promote",
                "Verify, load, warm, score: then it answers a share of the requests, or all.",
            ),
            "rollback": ("serve.models.cli:rollback", "End a canary, or go back to the version before."),
            "unload": ("serve.models.cli:unload", "Take a name out; requests in flight are answered first."),
        },
    },
    "submit": ("cluster.cli:submit", "Run one of these on a Ray cluster, as a job: submit -- VERB ..."),
    "status": ("cluster.cli:status", "The jobs of a cluster, or the attempts at one."),
    "logs": ("cluster.cli:logs", "What a job has printed, or prints."),
    "stop": ("cluster.cli:stop", "Stop a job; submitted again by its name, it goes on."),
    "cluster": {
        "up": ("cluster.cli:up", "Start a cluster of this machine alone, which goes on after the command."),
        "down": ("cluster.cli:down", "End it."),
    },
    "export": (
        "whisperfleet.export:export",
        "Write a model for other software: plain transformers, CTranslate2, or ONNX Runtime.",
    ),
}
GROUPS = {
    "data": "What a training run reads.",
    "models": "What a running endpoint serves.",
    "cluster": "A local cluster for jobs.",
}


class LazyCommand(TyperCommand):
    """Stands in, in the help, for a verb: its module is imported only when the verb is used."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._target = target

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Hand over to the real command: from here on, the stand-in is not seen again."""
        module, function = self._target.split(":")
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name, help=self.help)(getattr(import_module(module), function))
        termination.begin()
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


class VerbWithVerbs(TyperGroup):
    """Group that is also a verb itself: ``serve MODEL`` beside ``serve models list``."""

    def __init__(self, name: str, itself: LazyCommand, commands: dict[str, Command]) -> None:
        super().__init__(name=name, commands=commands, help=itself.help)
        self._itself = itself

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Hand over to the verb that is the group itself, unless one of the others is named."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent=parent, **extra)
        return self._itself.make_context(info_name, args, parent=parent, **extra)


def _commands(table: Table) -> dict[str, Command]:
    return {name: _command(name, entry) for name, entry in table.items()}


def _command(name: str, entry: Verb | Table) -> Command:
    if not isinstance(entry, Mapping):
        return LazyCommand(name, *entry)
    if ITSELF in entry:
        commands = _commands(entry)
        return VerbWithVerbs(name, cast(LazyCommand, commands.pop(ITSELF)), commands)
    return TyperGroup(name=name, commands=_commands(entry), help=GROUPS[name], no_args_is_help=True)


class Verbs(TyperGroup):
    """The verbs of the table, in its order."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _commands(VERBS)})

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the verbs in the table's order, which is that of the work."""
        return list(self.commands)


app = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"whisperfleet {metadata.version('whisperfleet')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def whisperfleet(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Fine-tune Whisper and CTC models on Ray and serve them as a batched transcription endpoint."""
