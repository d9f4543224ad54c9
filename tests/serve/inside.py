"""The whole endpoint in this process, behind ASGI: the real ingress and one real replica, without Serve between them.

What Serve, its proxies and its pickling between processes add is tested in ``test_api_served``.
"""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions
import ray.serve
import torch
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serve.config import ServeConfig
from serve.ingress.api import Api, app
from serve.ingress.controller_link import ControllerLink
from serve.models.controller import ModelController
from serve.models.members import Alive
from serve.replica.transcriber import Transcriber
from tests.serve.made import MakeEngine, made

INGRESS: Any = Api.__bases__[0]  # the class without what Serve puts around it


class Asked:
    """A method of the replica, asked as through a handle: what is given to it and what it returns is pickled."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *words: Any) -> asyncio.Task[Any]:
        """Return what may be awaited, or cancelled."""
        return asyncio.create_task(self._answer(pickle.loads(pickle.dumps(words))))

    async def _answer(self, words: tuple[Any, ...]) -> Any:
        answer = self._method(*words)
        return pickle.loads(pickle.dumps(await answer if inspect.isawaitable(answer) else answer))


class Parts:
    """Answers in parts, each of them pickled; an error is wrapped as Ray wraps it."""

    def __init__(self, answers: AsyncGenerator[Any]) -> None:
        self._answers = answers

    def __aiter__(self) -> Parts:
        return self

    async def __anext__(self) -> Any:
        try:
            return pickle.loads(pickle.dumps(await anext(self._answers)))
        except StopAsyncIteration:
            raise
        except Exception as error:
            raise ray.exceptions.RayTaskError("change", "", error) from None

    def cancel(self) -> None:
        """Have nothing more answered."""
        self._ended = asyncio.ensure_future(self._answers.aclose())


class Streams:
    """A handle whose answers come in parts."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, method: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *words: Parts(getattr(self._replica, method)(*words)))


class Kept:
    """A memory as Ray's is, in this process."""

    def __init__(self) -> None:
        self.content: bytes | None = None

    def get(self) -> bytes | None:
        """Return what was put last."""
        return self.content

    def put(self, content: bytes) -> None:
        """Keep something else."""
        self.content = content


async def nobody() -> set[str]:
    """Return the ingresses that live, of which none is known to Ray."""
    return set()


def controlled(config: ServeConfig, replicas: Any, memory: Kept | None = None, alive: Alive = nobody) -> Any:
    """Return a handle of a controller in this process."""
    return Handle(ModelController(config, replicas, "deployment", memory or Kept(), alive))


def linked(controller: Any, replicas: Any, ingress: str = "Api#one") -> ControllerLink:
    """Return what an ingress has with a controller; opened in the event loop that calls this."""
    link = ControllerLink(ingress, controller, replicas)
    link.open()
    return link


class Handle:
    """What the ingress asks of Serve's handle, for the one replica that there is."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica

    def __getattr__(self, method: str) -> Asked:
        return Asked(getattr(self._replica, method))

    def options(self, stream: bool = False, **_: Any) -> Any:
        """Ask for answers in parts, or by another way."""
        return Streams(self._replica) if stream else self

    def broadcast(self, method: str, *words: Any) -> SimpleNamespace:
        """Ask all replicas, which is this one."""

        async def results_async(**_: Any) -> list[Any]:
            return await asyncio.gather(getattr(self, method).remote(*words), return_exceptions=True)

        return SimpleNamespace(results_async=results_async)


class Endpoint:
    """The ASGI application, which is made in the event loop that serves it, as Serve does."""

    def __init__(self, config: ServeConfig, make_engine: MakeEngine) -> None:
        self._config = config
        self._make_engine = make_engine
        self.api: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        handle: Any = Handle(Transcriber(self._config, made(self._make_engine)))
        self.api = INGRESS(self._config, handle, controlled(self._config, handle), "Api#inside")
        await self.api.check_health()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


@contextmanager
def inside(config: ServeConfig, make_engine: MakeEngine) -> Iterator[TestClient]:
    """Yield a client of such an endpoint: an ``httpx.Client``, through which OpenAI's own may speak."""
    endpoint = Endpoint(config, make_engine)
    switch_s, threads = sys.getswitchinterval(), torch.get_num_threads()  # both are the ingress's to set in its process
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray.serve, "get_replica_context", lambda: SimpleNamespace(servable_object=endpoint.api))
            with TestClient(endpoint, raise_server_exceptions=False, follow_redirects=False) as client:
                yield client
    finally:
        sys.setswitchinterval(switch_s)
        torch.set_num_threads(threads)
