"""The application as a Serve config file names it: ``import_path: serve.builder:application``, with ``args``."""

from __future__ import annotations

import json

import ray.serve

from asr.config import resolve
from asr.errors import UserError
from asr.parsed import JsonObject
from serve.app import build
from serve.config import ServeConfig

EVERYWHERE = "0.0.0.0"  # where the proxies of a cluster listen


def application(args: JsonObject) -> ray.serve.Application:
    """Return the application that ``args`` describe: the keys of configs/serve.yaml, but for host and port.

    Serve calls it on the cluster, for ``serve deploy`` and for KubeRay's RayService. It is taken to be reachable from
    outside, so that ``args`` name ``keys``, or say ``exposed: true``. Raises UserError naming every mistake.
    """
    if taken := [name for name in ("host", "port") if name in args]:
        raise UserError(
            f"args: {', '.join(taken)}: on a cluster that is Serve's", "set http_options beside applications"
        )
    settings = [f"{name}={json.dumps(value)}" for name, value in args.items()]
    return build(resolve(ServeConfig, None, [f"host={EVERYWHERE}", *settings]).value)
