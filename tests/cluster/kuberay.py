"""KubeRay's resources, as much of them as our files use: a field that is not here is taken for a slip of the pen.

Kubernetes drops unknown fields without a word. Field names, types and choices are those of KubeRay 1.7's API reference.
Pods are left to Kubernetes' own schemas. Where WHISPERFLEET_KUBERAY_CRDS names a folder with the operator's
``ray.io_rayjobs.yaml`` and ``ray.io_rayservices.yaml``, ``problems`` asks these too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import kubernetes_validate
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

KUBERNETES = "1.30"  # the oldest whose schemas a pod here has to satisfy
CRDS = "WHISPERFLEET_KUBERAY_CRDS"


class Part(BaseModel):
    """A part of a resource."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Part):
    mode: Literal["token", "disabled"]
    secretName: str


class AutoscalerOptions(Part):
    version: Literal["v1", "v2"]
    idleTimeoutSeconds: int = Field(ge=0)


class HeadGroup(Part):
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class WorkerGroup(HeadGroup):
    groupName: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    replicas: int
    minReplicas: int = Field(ge=0)
    maxReplicas: int
    priority: int = 0

    @model_validator(mode="after")
    def _in_order(self) -> WorkerGroup:
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        return self


class RayCluster(Part):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup] = Field(min_length=1)

    @model_validator(mode="after")
    def _pods_are_not_started_again_in_place(self) -> RayCluster:
        groups = [self.headGroupSpec, *self.workerGroupSpecs]
        assert all(group.template["spec"]["restartPolicy"] == "Never" for group in groups), "autoscaler v2 asks for it"
        return self


class RayJob(Part):
    entrypoint: str
    runtimeEnvYAML: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    backoffLimit: int = Field(ge=0)
    shutdownAfterJobFinishes: Literal[True]  # or a ttl is refused
    ttlSecondsAfterFinished: int = Field(ge=0)
    preRunningDeadlineSeconds: int = Field(gt=0)
    rayClusterSpec: RayCluster


class UpgradeStrategy(Part):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


class RayService(Part):
    upgradeStrategy: UpgradeStrategy
    rayClusterDeletionDelaySeconds: int = Field(ge=0)
    excludeHeadPodFromServeSvc: bool
    serveConfigV2: str
    rayClusterConfig: RayCluster


class Metadata(Part):
    name: str = Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$", max_length=47)


class Resource(Part):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob", "RayService"]
    metadata: Metadata
    spec: dict[str, Any]


SPECS: dict[str, type[RayJob] | type[RayService]] = {"RayJob": RayJob, "RayService": RayService}


def problems(resource: dict[str, Any]) -> list[str]:
    """Return what Kubernetes or KubeRay would refuse in a resource, or pass over in silence."""
    return [*_of_ours(resource), *_of_pods(resource), *_of_crds(resource)]


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a resource that describes its Ray cluster."""
    spec = resource["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return found


def groups_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of its pods, the head's first."""
    cluster = cluster_of(resource)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def _of_ours(resource: dict[str, Any]) -> Iterator[str]:
    try:
        SPECS[Resource.model_validate(resource).kind].model_validate(resource["spec"])
    except ValidationError as error:
        yield from (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())


def _of_pods(resource: dict[str, Any]) -> Iterator[str]:
    for group in groups_of(resource):
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        try:
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{group.get('groupName', 'head')}: {error.message}"


def _of_crds(resource: dict[str, Any]) -> Iterator[str]:
    if not (folder := os.environ.get(CRDS)):
        return
    definition = yaml.safe_load(Path(folder, f"ray.io_{resource['kind'].lower()}s.yaml").read_text(encoding="utf-8"))
    (version,) = (version for version in definition["spec"]["versions"] if version["name"] == "v1")
    schema = _strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    for error in jsonschema.Draft202012Validator(schema).iter_errors(resource):
        yield f"{error.json_path}: {error.message}"


def _strict(schema: Any) -> Any:
    """Refuse what a schema does not name, at every level."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return named | {name: _strict(value) for name, value in schema.items()}
