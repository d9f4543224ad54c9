"""What the pods on Kubernetes may do, and who may reach them: every container of every pod that the operator makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.cluster.kuberay import KUBERNETES, cluster_of, pods_of

FOLDER = Path(__file__).resolve().parents[2] / "cluster/kuberay"
POLICIES = list(yaml.safe_load_all((FOLDER / "network.yaml").read_text(encoding="utf-8")))
RESOURCES = {name: yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) for name in ("train", "serve")}
PODS = {f"{name} {pod}": made for name, read in RESOURCES.items() for pod, made in pods_of(read).items()}
CONTAINERS = [
    pytest.param(pod["spec"], container, id=f"{name}: {container['name']}")
    for name, pod in PODS.items()
    for kind in ("containers", "initContainers")
    for container in pod["spec"].get(kind, [])
]
API = "/var/run/secrets/kubernetes.io/serviceaccount"

# Who is not one of ours: (labels, namespace).
STRANGER = ({"app": "stranger"}, "default")
OPERATOR = ({"app.kubernetes.io/component": "kuberay-operator"}, "kuberay-system")
BALANCER = ({"app.kubernetes.io/name": "ingress-nginx"}, "ingress-nginx")
PROMETHEUS = ({"app.kubernetes.io/name": "prometheus"}, "monitoring")
PORTS = {
    "gcs": 6379,
    "dashboard": 8265,
    "client": 10001,
    "worker": 10002,
    "agent": 52365,
    "serve": 8000,
    "metrics": 8080,
}


def test_there_are_pods_of_every_kind() -> None:
    assert set(PODS) == {"train head", "train spot", "train on-demand", "train submitter", "serve head", "serve gpu"}
    assert len(CONTAINERS) == len(PODS) + 2  # an autoscaler beside each head


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_container_has_no_rights_that_it_does_not_need(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """Kubernetes' `restricted` standard, and a file system that nothing can be put into."""
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["runAsGroup"] == 1000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not [name for name in pod if name.startswith("host")]
    assert not [port for port in container.get("ports", []) if "hostPort" in port]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_what_has_to_be_written_has_a_place(pod: dict[str, Any], container: dict[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    assert "emptyDir" in mounts["/tmp"]  # Ray's own files
    if container["name"] != "autoscaler":
        assert "emptyDir" in mounts["/home/ray"]  # compiled kernels, settings of libraries
    if container["name"] in ("ray-head", "ray-worker"):
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_only_the_autoscaler_has_a_token_for_kubernetes(pod: dict[str, Any], container: dict[str, Any]) -> None:
    """A job's code runs in the head's other container, and with the token it could change the cluster's resource."""
    assert pod["automountServiceAccountToken"] is False
    tokens = {volume["name"] for volume in pod["volumes"] if "serviceAccountToken" in str(volume)}
    seen = [mount for mount in container["volumeMounts"] if mount["name"] in tokens]
    if container["name"] != "autoscaler":
        assert seen == []
        return
    assert [(mount["mountPath"], mount["readOnly"]) for mount in seen] == [(API, True)]
    (sources,) = [volume["projected"]["sources"] for volume in pod["volumes"] if volume["name"] in tokens]
    paths = [source["serviceAccountToken"]["path"] for source in sources if "serviceAccountToken" in source]
    paths += [item["path"] for source in sources for kind in source.values() for item in kind.get("items", [])]
    assert sorted(paths) == ["ca.crt", "namespace", "token"]
    ours = {mount["name"] for mount in container["volumeMounts"]}
    others = {mount["name"] for other in pod["containers"] if other is not container for mount in other["volumeMounts"]}
    assert not ours & others  # nor can they put a file in its way


@pytest.mark.parametrize("name", RESOURCES)
def test_the_head_s_service_has_no_port_for_ray_clients(name: str) -> None:
    """The operator makes the service of the head's ports."""
    (head, *_) = cluster_of(RESOURCES[name])["headGroupSpec"]["template"]["spec"]["containers"]
    assert {port["containerPort"] for port in head["ports"]} <= {6379, 8265, 8080}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy["metadata"]["name"])
def test_a_policy_is_one(policy: dict[str, Any]) -> None:
    kubernetes_validate.validate(policy, KUBERNETES, strict=True)
    assert policy["kind"] == "NetworkPolicy" and policy["spec"]["policyTypes"] == ["Ingress"]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector of Kubernetes' takes these labels."""
    expressions = selector.get("matchExpressions", [])
    assert all(one["operator"] == "Exists" for one in expressions)
    wanted = selector.get("matchLabels", {})
    return wanted.items() <= labels.items() and all(one["key"] in labels for one in expressions)


def admits(peer: dict[str, Any], labels: dict[str, str], namespace: str) -> bool:
    assert peer and peer.keys() <= {"podSelector", "namespaceSelector"}
    inside = "namespaceSelector" not in peer
    spaces = (
        namespace == "default"
        if inside
        else selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
    )
    return spaces and selects(peer.get("podSelector", {}), labels)


def open_ports(source: tuple[dict[str, str], str], target: dict[str, str]) -> set[str]:
    """The ports that a pod with these labels, in this namespace, may reach of one of ours."""

    def rules() -> Iterator[dict[str, Any]]:
        for policy in POLICIES:
            if selects(policy["spec"]["podSelector"], target):
                yield from policy["spec"].get("ingress", [])

    assert any(selects(policy["spec"]["podSelector"], target) for policy in POLICIES)  # else everybody may
    found = set()
    for rule in rules():
        assert rule.get("from")  # a rule without is one for everybody
        if any(admits(peer, *source) for peer in rule["from"]):
            ports = {one["port"] for one in rule["ports"]} if "ports" in rule else set(PORTS.values())
            found |= {name for name, port in PORTS.items() if port in ports}
    return found


def labels(name: str) -> dict[str, str]:
    found: dict[str, str] = PODS[name]["metadata"]["labels"]
    return found


@pytest.mark.parametrize("target", PODS)
def test_a_stranger_reaches_no_port_of_no_pod(target: str) -> None:
    assert open_ports(STRANGER, labels(target)) == set()
    assert open_ports((labels(target), "elsewhere"), labels(target)) == set()  # the same labels in another namespace


@pytest.mark.parametrize(
    ("source", "target", "ports"),
    [
        (OPERATOR, "train head", {"dashboard", "serve"}),
        (OPERATOR, "serve head", {"dashboard", "serve"}),
        (OPERATOR, "serve gpu", set()),
        (BALANCER, "serve gpu", {"serve"}),
        (BALANCER, "serve head", set()),
        (BALANCER, "train head", set()),
        (PROMETHEUS, "serve gpu", {"serve", "metrics"}),
        (PROMETHEUS, "train head", {"serve", "metrics"}),
        (PROMETHEUS, "train submitter", set()),
        ("train submitter", "train head", {"dashboard"}),
        ("train submitter", "train spot", set()),
        ("train submitter", "serve head", set()),
        ("train spot", "train head", set(PORTS)),
        ("train head", "train on-demand", set(PORTS)),
        ("serve gpu", "serve head", set(PORTS)),
        ("serve head", "serve gpu", set(PORTS)),
        ("train spot", "serve head", set()),
        ("serve gpu", "train head", set()),
        ("serve gpu", "train submitter", set()),
    ],
)
def test_who_is_named_reaches_what_it_needs_and_no_more(source: Any, target: str, ports: set[str]) -> None:
    who = (labels(source), "default") if isinstance(source, str) else source
    assert open_ports(who, labels(target)) == ports
