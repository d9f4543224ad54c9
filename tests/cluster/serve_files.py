"""Serve's config files as Serve takes them, and stricter: Serve passes over what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from serve.builder import application
from serve.ingress.api import Api
from serve.replica.transcriber import Transcriber


def unknown(config: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of a config file that Serve would pass over."""
    parts: list[tuple[Any, dict[str, Any]]] = [
        (ServeDeploySchema, config),
        (HTTPOptionsSchema, config.get("http_options", {})),
        (LoggingConfig, config.get("logging_config", {})),
    ]
    for app in config["applications"]:
        parts.append((ServeApplicationSchema, app))
        parts += [(DeploymentSchema, deployment) for deployment in app.get("deployments", [])]
    for model, part in parts:
        yield from set(part) - set(model.model_fields)


def check(config: dict[str, Any]) -> None:
    """Fail where Serve would not deploy our application from this file, or would pass over a part of it."""
    assert list(unknown(config)) == []
    (app,) = ServeDeploySchema.model_validate(config).applications
    assert app.import_path == f"{application.__module__}:{application.__name__}"
    assert application(app.args)
    assert {deployment.name for deployment in app.deployments} == {Api.__name__, Transcriber.__name__}
    assert config["http_options"]["host"] == "0.0.0.0"
