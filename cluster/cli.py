"""The options of ``submit``, ``status``, ``logs``, ``stop`` and ``cluster up / down``.

What speaks with Ray is imported once they are read: a help text need not wait for it.
"""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from asr.errors import UserError
from asr.secret_words import is_secret_name, is_secret_value
from cluster import launch, local, termination
from cluster.checkout import Checkout
from cluster.configurations import bring, locate, missing
from cluster.environment import Environment, runtime_environment

if TYPE_CHECKING:
    from cluster.jobs import Cluster, JobRequest, SubmittedJob

INTERRUPTED = 130  # as a shell says it of a command that Ctrl-C ended
_HERE_ONLY = ("submit", "status", "logs", "stop", "cluster")
_STOP_S = "20"  # a verb that is asked to stop has so long to do it

Address = Annotated[
    str | None, typer.Option(help="The cluster's dashboard, http://HEAD:8265; default: RAY_ADDRESS, or `cluster up`.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show what it prints until it ends; exit with its code.")]
out = Console(highlight=False, markup=False, soft_wrap=True)


def submit(  # noqa: PLR0913 - the options of a verb
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="-- VERB ...", help="Default: those of the last time.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the job; default: the verb and its configuration.")] = None,
    address: Address = None,
    follow: Follow = False,
    storage: Annotated[
        str | None,
        typer.Option(envvar=launch.STORAGE, help="Folder that all nodes see, or address, for relative paths."),
    ] = None,
    packages: Annotated[
        Environment | None,
        typer.Option(help="pinned (default): must be on the nodes; pip, uv: install them; image: as they are there."),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="For the job's environment; NAME alone: as it is here."),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PATH", help="A file or folder of the checkout that git does not track."),
    ] = None,
    as_json: Json = False,
) -> None:
    from cluster.jobs import JobRequest

    checkout, cluster = Checkout.here(), _cluster(address)
    if argv:
        earlier, typed = None, locate(checkout.root, Path.cwd(), argv)
        name = name or default_name(argv)
    elif name:
        earlier = cluster.find(name).order
        typed = list(earlier.words)
    else:
        raise UserError("what shall run?", "whisperfleet submit -- train configs/demo.yaml")
    if typed[0] in _HERE_ONLY:
        raise UserError(f"'{typed[0]}' is a verb for this machine", "submit another one, such as train")
    before = earlier or JobRequest(tuple(typed))
    uri = before.storage if storage is None else storage
    asked = before.asked if with_ is None else tuple(checkout.asked(Path.cwd(), with_))
    order = JobRequest(tuple(typed), uri, packages or before.packages, checkout.commit(), asked)
    job = send(cluster, checkout, name, order, _variables(var or []))
    if as_json:
        typer.echo(json.dumps(job.row()))
    else:
        typer.echo(f"job '{job.name}', attempt {job.attempt}, on {cluster.address}: {shlex.join(job.order.words)}")
    if follow:
        _follow(cluster, job)
    elif not as_json:
        typer.echo(f"  whisperfleet logs {job.name} --follow\n  whisperfleet status {job.name}")


def status(
    name: Annotated[str | None, typer.Argument(help="One job's attempts; default: all jobs.")] = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    cluster = _cluster(address)
    jobs = cluster.jobs()
    if name is not None:
        found = cluster.find(name)
        jobs = [job for job in jobs if found.name == job.name]
    if as_json:
        typer.echo(json.dumps([job.row() for job in jobs]))
        return
    if not jobs:
        typer.echo(f"no jobs on {cluster.address}")
        return
    table = Table("job", "attempt", "state", "since", "took", "exit", "what")
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        what = shlex.join(job.order.words)
        table.add_row(job.name, str(job.attempt), job.state, _time(job.started), _took(job), code, what)
    out.print(table)
    if name is not None and jobs[0].message:
        out.print(jobs[0].message.strip())


def logs(
    name: Annotated[str, typer.Argument(help="A job's name.")], address: Address = None, follow: Follow = False
) -> None:
    cluster = _cluster(address)
    job = cluster.find(name)
    if follow:
        _follow(cluster, job)
    else:
        _show(cluster.logs(job))


def stop(
    name: Annotated[str, typer.Argument(help="A job's name.")], address: Address = None, as_json: Json = False
) -> None:
    cluster = _cluster(address)
    job = cluster.find(name)
    if job.has_ended:
        raise UserError(f"job '{name}' has ended already: it {_said(job)}")
    job = cluster.stop(job)
    again = f"whisperfleet submit --name {job.name}"
    typer.echo(json.dumps(job.row()) if as_json else f"job '{job.name}' {_said(job)}; to go on with it: {again}")


def up(
    port: Annotated[int, typer.Option(help="Of the dashboard, on loopback.")] = local.DASHBOARD_PORT,
    as_json: Json = False,
) -> None:
    """Start a cluster of this machine that goes on after the command, or find the one that runs."""
    head = local.up(local.folder(), port)
    if as_json:
        typer.echo(json.dumps({"address": head.address, "ray": head.gcs, "pid": head.pid}))
        return
    typer.echo(f"a cluster of this machine is up: {head.address}")
    typer.echo(f"  whisperfleet submit --storage {Path.cwd()} --follow -- train CONFIG.yaml")
    typer.echo("  whisperfleet submit --follow -- check --cluster\n  whisperfleet cluster down")


def down() -> None:
    """End the cluster that `cluster up` started, and no other."""
    head = local.down(local.folder())
    typer.echo(f"the cluster at {head.address} has ended" if head else "no cluster of `cluster up` is running")


def send(
    cluster: Cluster, checkout: Checkout, name: str, order: JobRequest, variables: Mapping[str, str]
) -> SubmittedJob:
    """Send the checkout to a cluster, say what stays, and start what is ordered under a name. Raises UserError."""
    from cluster import interpreter

    argv, brought = bring(checkout.root, order.words)
    contents = checkout.contents(order.asked, brought)
    environment = {
        **variables,
        **interpreter.VARIABLE,
        launch.JOB: name,
        launch.PACKAGES: order.packages,
        # Ctrl-C's signal: a verb takes it as a wish to end in good order. Ray's own one ends it at once.
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": _STOP_S,
    }
    if order.storage:
        environment[launch.STORAGE] = order.storage
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch, "checkout.zip")
        contents.pack(archive)
        for remark in (*contents.remarks, *missing(checkout.root, order.words, order.storage, contents.files)):
            typer.echo(f"whisperfleet: {remark}", err=True)
        installed = runtime_environment(order.packages, checkout.pins)
        runtime_env = {"working_dir": str(archive), "env_vars": environment, **installed}
        return cluster.submit(name, shlex.join(["python", "-m", launch.__name__, *argv]), order, runtime_env)


def default_name(argv: Sequence[str]) -> str:
    """Return what a job is called that nobody gave a name: its verb, and the name of its configuration file."""
    file = next((Path(word).stem for word in argv[1:] if word.endswith((".yaml", ".yml"))), "")
    return "-".join(filter(None, [argv[0], file]))


def _cluster(address: str | None) -> Cluster:
    from cluster.jobs import Cluster, dashboard

    head = local.running(local.folder())
    return Cluster(dashboard(address, head.address if head else None))


def _variables(given: Sequence[str]) -> dict[str, str]:
    """Return the job's variables: NAME=VALUE as typed, NAME as it is here. Raises UserError, showing no value."""
    variables = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals and name in os.environ:
            value = os.environ[name]
        elif not name or not equals:
            raise UserError(f"--var {name}: no value", f"export {name or 'NAME'} first, or write --var NAME=VALUE")
        elif value and (is_secret_name(name) or is_secret_value(value)):
            raise UserError(
                f"--var {name}: a secret on the command line can be read by everybody on this machine",
                f"export {name}, and write --var {name}",
            )
        variables[name] = value
    return variables


def _follow(cluster: Cluster, job: SubmittedJob) -> None:
    """Show what a job prints until it ends, and exit as it did."""
    try:
        job = cluster.follow(job, _show)
    except KeyboardInterrupt:
        termination.tell(
            f"\njob '{job.name}' goes on: whisperfleet logs {job.name} --follow, whisperfleet stop {job.name}"
        )
        raise typer.Exit(INTERRUPTED) from None
    if job.code:
        no_code = job.state == "failed" and job.exit_code is None  # it did not even start
        reason = job.message.strip().splitlines() if no_code else []
        typer.echo(f"job '{job.name}' {_said(job)}" + "".join(f"\n  {line}" for line in reason), err=True)
        raise typer.Exit(job.code)


def _show(text: str) -> None:
    print(text, end="", flush=True)


def _said(job: SubmittedJob) -> str:
    code = f" with exit code {job.exit_code}" if job.state == "failed" and job.exit_code is not None else ""
    return ("was stopped" if job.state == "stopped" else job.state) + code


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).strftime("%m-%d %H:%M:%S") if seconds else ""


def _took(job: SubmittedJob) -> str:
    if job.started is None:
        return ""
    seconds = (job.ended or datetime.now().timestamp()) - job.started
    return f"{seconds:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"
