"""The Serve application, and running it for the length of a block."""

from __future__ import annotations

import io
import logging
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress

import ray
import ray.serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from asr.errors import UserError
from asr.inference.model_info import ModelInfo
from cluster.ports import free_ports
from cluster.scaling import require
from cluster.session import ray_session
from serve.config import ServeConfig
from serve.haproxy import haproxy_settings, ingress_host
from serve.ingress.api import Api
from serve.ingress.limits.auth import read_keys
from serve.ingress.scaling import ingress_options, least_ingresses
from serve.models.catalog import opened
from serve.models.controller import INGRESS, ModelController
from serve.replica.engine_loader import MakeLoader
from serve.replica.engine_pool import EnginePool
from serve.replica.transcriber import replicas

APP = "whisperfleet"
HEALTH_S = 2.0  # between Serve's looks at an ingress and the controller: one that died is replaced so much later
SPARE_REQUESTS = 64  # beyond max_queued, so that health checks and refusals are never queued themselves
DRAIN_S = 25.0  # less than the 30 s that Kubernetes waits before it kills
_USER_ERROR = f"{UserError.__module__}.{UserError.__qualname__}: "
_OF_OUR_OWN_CALLS = ("request_router", "router", "long_poll")  # Ray's modules, in the process that serves
# Serve gives a replica three event loops, in threads that wait for one interpreter lock and wake each other: for HTTP,
# for our code and for handles. In one they take two thirds of the core time. Nothing of ours blocks one; this process
# has read Serve's own settings already, and may go on waiting for handles.
_ONE_LOOP = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
_LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)


def build(config: ServeConfig, make_loader: MakeLoader = EnginePool) -> ray.serve.Application:
    """Return the application: HTTP ingresses in front of the replicas that hold the models, and their controller."""
    transcriber = replicas(config, make_loader)
    controller = ray.serve.deployment(
        ModelController,
        name="ModelController",
        ray_actor_options={"num_cpus": 0},  # it mostly waits
        max_ongoing_requests=10_000,
        health_check_period_s=HEALTH_S,
        max_constructor_retry_count=1,
    ).bind(config, transcriber, uuid.uuid4().hex)
    api = ray.serve.deployment(
        Api,
        name=INGRESS,
        max_ongoing_requests=config.max_queued + SPARE_REQUESTS,
        health_check_period_s=HEALTH_S,
        **ingress_options(config),
    )
    return api.bind(config, transcriber, controller)


@contextmanager
def running(config: ServeConfig, make_loader: MakeLoader = EnginePool, address: str | None = None) -> Iterator[str]:
    """Serve for the length of the block; yield the base URL once a replica is ready.

    Raises UserError where the model, the keys or the port are not to be had, the cluster is too small, or a Serve runs
    already.
    """
    catalog = opened(config)
    loader = make_loader(config)
    for entry in catalog.entries.values():
        loader.require(entry.stable.artifact)  # what a replica raises comes back as a traceback in a status
    read_keys(config.keys)  # what is wrong with them is said here, not in the ingress's traceback
    port = _available_port(config)
    logger = logging.getLogger("ray.serve")
    logger.setLevel(logging.WARNING)
    logger.addFilter(_is_for_a_user)
    with ExitStack() as last, haproxy_settings(config.host) as settings, ray_session(address, settings | _ONE_LOOP):
        if ray.serve.status().proxies:
            raise UserError("a Ray Serve already runs on this cluster", "stop it, or start another cluster")
        _require(config)
        try:
            inside = ingress_host(config.host, settings)
            ray.serve.start(http_options=HTTPOptions(host=inside, port=port), logging_config=_LOGGING)
            deploy(config, make_loader)
            host = f"[{config.host}]" if ":" in config.host else config.host
            yield f"http://{host}:{port}"
            drain(APP)
        finally:
            # Ray kills its controller while our call to it is pending, and then reports that on standard output.
            last.enter_context(redirect_stdout(io.StringIO()))
            ray.serve.shutdown()


def deploy(config: ServeConfig, make_loader: MakeLoader = EnginePool, name: str = APP, route_prefix: str = "/") -> None:
    """Deploy on the Serve that runs, and wait for the replicas.

    Raises UserError where that is what a replica's constructor ended with; nothing of the application is left then.
    """
    try:
        ray.serve.run(build(config, make_loader), name=name, route_prefix=route_prefix, logging_config=_LOGGING)
    except RuntimeError as error:
        told = [status.message for status in ray.serve.status().applications[name].deployments.values()]
        ray.serve.delete(name)  # its ingress would keep a core
        for line in "\n".join(told).splitlines():  # Serve keeps the exception only as the text of its traceback
            if line.startswith(_USER_ERROR):
                raise UserError(line.removeprefix(_USER_ERROR)) from None
        error.add_note("\n".join(told))
        raise


def served() -> ModelInfo:
    """Return what is known of the default model of the endpoint that runs."""
    info: ModelInfo = ray.serve.get_app_handle(APP).default_model.remote().result()
    return info


def drain(name: str) -> None:
    """Let nobody into an application any more, and wait ``DRAIN_S`` at most for the answers to those in."""
    with suppress(TimeoutError, RayError):
        ray.serve.get_app_handle(name).broadcast("drain").results(timeout_s=DRAIN_S, return_exceptions=True)


def _is_for_a_user(record: logging.LogRecord) -> bool:
    """Return whether a record is news to the operator. Ray's router warns of our own slow calls, and asks again."""
    return record.module not in _OF_OUR_OWN_CALLS


def _available_port(config: ServeConfig) -> int:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the proxy does: no wait for old connections
        try:
            probe.bind((config.host, config.port or free_ports(1, family)[0]))
        except OSError as error:
            hint = "choose another, or port=0 for any free one"
            raise UserError(f"cannot listen on {config.host}:{config.port}: {error.strerror}", hint) from None
        return int(probe.getsockname()[1])


def _require(config: ServeConfig) -> None:
    least = config.replicas.min
    wanted = {"CPU": least * config.threads + least_ingresses(config), "GPU": least * config.gpu}
    require(
        wanted, "the endpoint", {"CPU": "lower replicas, cpus_each or ingresses", "GPU": "gpu=0, or fewer replicas"}
    )
