"""The table of verbs. A verb's module, and with it torch or Ray, is imported when the verb is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

# verb -> (module:function with its options, what it does), or the verbs of a group
VERBS: Mapping[str, Any] = {
    "demo": ("whisperfleet.demo:demo", "The whole way on real speech: WER before, fine-tune, WER after, serve, ask."),
    "data": {
        "inspect": (
            "train.data.cli:inspect",
            "Hours, lengths, odd characters, duplicates, overlap and faults of a source.",
        ),
        "prepare": ("train.data.cli:prepare", "Make manifests and 16 kHz clips from a source of labelled speech."),
    },
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
    "transcribe": ("serve.bulk.cli:transcribe", "Write down what is said in files, folders, addresses; resumable."),
    "serve": ("serve.cli:serve", "Run the transcription endpoint (OpenAI's audio API) on Ray Serve."),
    "export": (
        "whisperfleet.export:export",
        "Write a model for other software: plain transformers, or CTranslate2.",
    ),
}
GROUPS = {"data": "What a training run reads."}


class LazyCommand(TyperCommand):
    """Stands in the help for a verb whose module is not imported until the verb is used."""

    def __init__(self, name: str, target: str, summary: str) -> None:
        super().__init__(name, help=summary)
        self._target = target

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Hand over to the real command: from here on, the stand-in is not seen again."""
        module, function = self._target.split(":")
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name, help=self.help)(getattr(import_module(module), function))
        return typer.main.get_command(app).make_context(info_name, args, parent=parent, **extra)


def _commands(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: TyperGroup(name=name, commands=_commands(entry), help=GROUPS[name], no_args_is_help=True)
        if isinstance(entry, Mapping)
        else LazyCommand(name, *entry)
        for name, entry in table.items()
    }


class Verbs(TyperGroup):
    """The verbs of the table, in its order."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _commands(VERBS)})

    def list_commands(self, ctx: Any) -> list[str]:
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
    """Fine-tune Whisper on Ray and serve it as a batched transcription endpoint."""
