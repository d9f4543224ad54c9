"""What KubeRay and Kubernetes would refuse in a resource, or drop without a word: a field that no schema names.

``schemas/kuberay-1.7.0.json`` are the operator's own definitions of RayJob and RayService (Apache-2.0, from
https://github.com/ray-project/kuberay at v1.7.0, helm-chart/kuberay-operator/crds), without their descriptions, and
without pods, for which Kubernetes' own schemas are asked.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = "1.30"  # the oldest whose schemas a pod here has to satisfy
SCHEMAS = Path(__file__).parent / "schemas" / "kuberay-1.7.0.json"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,45}[a-z0-9])?")  # the operator puts up to 16 characters behind it


def problems(resource: dict[str, Any]) -> list[str]:
    """Return all of it."""
    found = [*_of_definitions(resource)]
    return found or [*_of_pods(resource), *_of_rules(resource)]


def cluster_of(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a resource that describes its Ray cluster."""
    spec = resource["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return found


def groups_of(resource: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the groups of its pods, the head's first."""
    cluster = cluster_of(resource)
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods_of(resource: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the pods that the operator makes of a resource, by name: with its labels, and the head's autoscaler."""
    cluster, spec = cluster_of(resource), resource["spec"]
    pods = {}
    for number, group in enumerate(groups_of(resource)):
        pod = copy.deepcopy(group["template"])
        labels = pod.setdefault("metadata", {}).setdefault("labels", {})
        labels |= {"ray.io/node-type": "worker" if number else "head", "app.kubernetes.io/name": "kuberay"}
        if not number and cluster.get("enableInTreeAutoscaling"):
            options = cluster["autoscalerOptions"]
            kept = {name: options[name] for name in ("securityContext", "volumeMounts") if name in options}
            image = pod["spec"]["containers"][0]["image"]
            pod["spec"]["containers"].append({"name": "autoscaler", "image": image} | kept)
        pods[group.get("groupName", "head")] = pod
    if resource["kind"] == "RayJob":
        pods["submitter"] = copy.deepcopy(spec["submitterPodTemplate"])
    return pods


@cache
def _schemas() -> dict[str, Any]:
    return {kind: _strict(schema) for kind, schema in json.loads(SCHEMAS.read_text(encoding="utf-8")).items()}


def _strict(schema: Any) -> Any:
    """Refuse what a schema does not name, at every level."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    named = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return named | {name: _strict(value) for name, value in schema.items()}


def _of_definitions(resource: dict[str, Any]) -> Iterator[str]:
    if resource["apiVersion"] != "ray.io/v1" or resource["kind"] not in _schemas():
        yield f"{resource['apiVersion']} {resource['kind']} is none of KubeRay's"
        return
    for error in jsonschema.Draft202012Validator(_schemas()[resource["kind"]]).iter_errors(resource):
        yield f"{error.json_path}: {error.message}"


def _of_pods(resource: dict[str, Any]) -> Iterator[str]:
    for name, template in pods_of(resource).items():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
        try:
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}: {error.message}"


def _of_rules(resource: dict[str, Any]) -> Iterator[str]:
    """What the operator checks beyond its definitions."""
    name, spec = resource["metadata"]["name"], resource["spec"]
    if not _NAME.fullmatch(name):
        yield f"{name}: no name for a resource"
    if "ttlSecondsAfterFinished" in spec and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished: nothing is shut down"
    for group in groups_of(resource)[1:]:
        if not group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]:
            yield f"{group['groupName']}: replicas are not between their bounds"
    if cluster_of(resource)["autoscalerOptions"]["version"] == "v2":
        for group in groups_of(resource):
            if group["template"]["spec"].get("restartPolicy") != "Never":
                yield f"{group.get('groupName', 'head')}: autoscaler v2 asks for restartPolicy Never"
