"""Actors of the endpoint's replicas that Ray takes for alive, by their names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import ray.util

Alive = Callable[[], Awaitable[set[str]]]
"""Returns the names of the actors of a deployment's replicas that Ray takes for alive."""


def living(app: str, deployment: str) -> Alive:
    """Return what asks Ray for the actors of a deployment of a Serve application."""
    prefix = f"SERVE_REPLICA::{app}#{deployment}#"

    async def alive() -> set[str]:
        loop = asyncio.get_running_loop()
        actors = await loop.run_in_executor(None, partial(ray.util.list_named_actors, all_namespaces=True))
        return {actor["name"] for actor in actors if actor["name"].startswith(prefix)}

    return alive


async def no_actors() -> set[str]:
    """Return no names, without Ray."""
    return set()
