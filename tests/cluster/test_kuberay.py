"""The files for Kubernetes: by Kubernetes' and KubeRay's fields, by Ray's autoscaler, and by what they call of ours."""

from __future__ import annotations

import copy
import json
import re
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from asr.config import resolve
from serve.config import ServeConfig
from tests.cluster import serve_files
from tests.cluster.kuberay import KUBERNETES, cluster_of, groups_of, pods_of, problems
from train.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "cluster/kuberay"


def written(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return read


def serve_config() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(written("serve")["spec"]["serveConfigV2"])
    return read


def test_there_are_the_two_resources_and_their_storage() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"network.yaml", "serve.yaml", "storage.yaml", "train.yaml"}
    kubernetes_validate.validate(written("storage"), KUBERNETES, strict=True)
    assert [written(name)["kind"] for name in ("train", "serve")] == ["RayJob", "RayService"]


@pytest.mark.parametrize("name", ["train", "serve"])
def test_nothing_is_refused_or_passed_over(name: str) -> None:
    assert problems(written(name)) == []


@pytest.mark.medium
@pytest.mark.parametrize("name", ["train", "serve"])
@pytest.mark.parametrize(
    "slip",
    [
        lambda resource: resource["spec"].update(ttlSecondsAfterFinish=1),
        lambda resource: cluster_of(resource).update(rayVersion=2.6),
        lambda resource: cluster_of(resource)["authOptions"].update(mode="tokens"),
        lambda resource: cluster_of(resource)["workerGroupSpecs"][0].update(minReplica=1),
        lambda resource: groups_of(resource)[1]["template"]["spec"].update(nodeSelectors={}),
        lambda resource: groups_of(resource)[1]["template"]["spec"]["containers"][0].update(img="x"),
        lambda resource: groups_of(resource)[0]["template"]["spec"]["volumes"][0].update(emptyDirs={}),
        lambda resource: groups_of(resource)[1].update(replicas=groups_of(resource)[1]["maxReplicas"] + 1),
        lambda resource: groups_of(resource)[1]["template"]["spec"].update(restartPolicy="Always"),
        lambda resource: resource["metadata"].update(name="a" * 48),
        lambda resource: resource.update(apiVersion="ray.io/v2"),
    ],
)
def test_a_slip_of_the_pen_is_caught(name: str, slip: Any) -> None:
    resource = copy.deepcopy(written(name))
    slip(resource)
    assert problems(resource) != []


@pytest.mark.parametrize("name", ["train", "serve"])
def test_ray_s_autoscaler_reads_the_groups(name: str) -> None:
    spec = cluster_of(written(name))
    types = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": name, "namespace": "default"}, "spec": spec})
    nodes = types["available_node_types"]
    assert nodes["headgroup"]["resources"]["CPU"] == 0
    for group in spec["workerGroupSpecs"]:
        assert nodes[group["groupName"]]["resources"]["GPU"] == 1
        assert nodes[group["groupName"]]["resources"]["CPU"] >= 5


@pytest.mark.parametrize("name", ["train", "serve"])
def test_versions_and_images_are_ours(name: str) -> None:
    assert cluster_of(written(name))["rayVersion"] == ray.__version__
    pods = pods_of(written(name)).values()
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    (image,) = images  # Ray's versions must be alike on all nodes, and so must Python's
    # by digest: a tag may be another image tomorrow. No node takes `CHANGE` for one, so it cannot be left there
    assert image.endswith(f"/whisperfleet:{metadata.version('whisperfleet')}-cuda@sha256:CHANGE")


@pytest.mark.parametrize("name", ["train", "serve"])
def test_every_pod_asks_for_the_token_and_sees_the_shared_volume(name: str) -> None:
    assert cluster_of(written(name))["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    claim = written("storage")["metadata"]["name"]
    for group in groups_of(written(name)):
        pod = group["template"]["spec"]
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert {"name": "shared", "persistentVolumeClaim": {"claimName": claim}} in pod["volumes"]
        assert mounts["shared"] == "/shared"
        environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
        assert environment["WHISPERFLEET_CACHE"].startswith("/shared/")
        assert pod["securityContext"]["runAsNonRoot"] is True


def test_the_job_is_a_run_that_begins_on_one_node_and_grows_on_spot_nodes() -> None:
    program, verb, file, *settings = shlex.split(written("train")["spec"]["entrypoint"])
    assert (program, verb) == ("whisperfleet", "train")
    config = resolve(TrainConfig, ROOT / Path(file).relative_to("/app"), settings).value
    groups = {group["groupName"]: group for group in cluster_of(written("train"))["workerGroupSpecs"]}
    assert config.workers.elastic is not None and config.workers.gpu
    assert config.workers.elastic.min == groups["on-demand"]["minReplicas"] == 1
    assert config.workers.elastic.max <= sum(group["maxReplicas"] for group in groups.values())
    assert groups["spot"]["priority"] > groups["on-demand"].get("priority", 0)
    assert config.run.folder.startswith("/shared/")
    variables = yaml.safe_load(written("train")["spec"]["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in variables.values())


@pytest.mark.medium
def test_serve_takes_the_application() -> None:
    serve_files.check(serve_config())


def test_a_replica_s_node_has_room_for_it_and_the_ingress() -> None:
    (app,) = serve_config()["applications"]
    config = resolve(ServeConfig, None, [f"{name}={json.dumps(value)}" for name, value in app["args"].items()]).value
    (group,) = cluster_of(written("serve"))["workerGroupSpecs"]
    asked = group["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert config.threads + 1 <= int(asked["cpu"])
    assert config.gpu <= int(asked["nvidia.com/gpu"])
    assert config.replicas.min == group["minReplicas"] and config.replicas.max == group["maxReplicas"]
    mounts = group["template"]["spec"]["containers"][0]["volumeMounts"]
    assert any(config.keys.startswith(f"{mount['mountPath']}/") for mount in mounts)


def test_nobody_is_cut_off_who_is_in() -> None:
    """The old cluster outlives the longest request, a replica that goes may finish, a pod that goes is given time."""
    service, config = written("serve")["spec"], serve_config()
    longest_s = ServeConfig(model="m").request_timeout_s
    graceful_s = {one["name"]: one["graceful_shutdown_timeout_s"] for one in config["applications"][0]["deployments"]}
    assert service["rayClusterDeletionDelaySeconds"] > longest_s
    assert graceful_s["Api"] > longest_s
    (group,) = service["rayClusterConfig"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    slept_s = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] > slept_s


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_what_an_operator_must_change_is_marked(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "# CHANGE" in text
    for line in text.splitlines():
        if re.search(r"registry\.example|mine/artifact|storageClassName", line) and not line.startswith("#"):
            assert "# CHANGE" in line
