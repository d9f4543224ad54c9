"""Whether a cluster has what a run or an endpoint asks for, said before anything waits for it in vain."""

from __future__ import annotations

from collections.abc import Mapping

import ray

from asr.errors import UserError


def require(wanted: Mapping[str, float], who: str, hints: Mapping[str, str]) -> None:
    """Raise UserError where the connected cluster holds less of a resource (``CPU``, ``GPU``) than ``who`` needs.

    What others occupy at the moment counts as there: Ray waits for it. ``hints`` say what to do about each resource.
    """
    present = ray.cluster_resources()
    for kind, amount in wanted.items():
        if amount > present.get(kind, 0):
            raise UserError(f"{who} needs {amount:g} {kind}s, the cluster has {present.get(kind, 0):g}", hints[kind])
