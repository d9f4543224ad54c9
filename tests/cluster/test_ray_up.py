"""The files for `ray up`: by Ray's own schema, by its code for a cloud, and up to nodes that start on a false AWS."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import moto
import pytest
import yaml
from ray.autoscaler._private.aws import config as aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME, TAG_RAY_NODE_KIND

from tests.cluster import serve_files

FOLDER = Path(__file__).resolve().parents[2] / "cluster/ray-up"
CLOUDS = ("aws", "gcp")
PROFILE = "whisperfleet"


def written(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return read


def prepared(name: str) -> dict[str, Any]:
    """The file as Ray takes it, with the cloud's defaults filled in."""
    full: dict[str, Any] = prepare_config(copy.deepcopy(written(name)))
    return full


def test_there_are_files_for_two_clouds() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {*CLOUDS, "serve"}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_takes_the_file(cloud: str) -> None:
    full = prepared(cloud)
    validate_config(full)
    assert full["provider"]["type"] == cloud
    assert set(full["available_node_types"]) == set(written(cloud)["available_node_types"])


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("path", [(), ("docker",), ("available_node_types", "gpu-spot")])
def test_a_slip_of_the_pen_is_caught(cloud: str, path: tuple[str, ...]) -> None:
    full = prepared(cloud)
    section = full
    for name in path:
        section = section[name]
    section["max_wrkers"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_wrkers"):
        validate_config(full)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_run_begins_on_a_node_that_stays_and_grows_on_spot_nodes(cloud: str) -> None:
    types = prepared(cloud)["available_node_types"]
    assert types["gpu"]["min_workers"] >= 1
    assert types["gpu-spot"]["min_workers"] == 0 < types["gpu-spot"]["max_workers"]
    spot, stays = (json.dumps(types[name]["node_config"]) for name in ("gpu-spot", "gpu"))
    assert re.search("spot", spot, re.IGNORECASE) and not re.search("spot", stays, re.IGNORECASE)
    assert types["head"]["resources"]["CPU"] == 0
    assert sum(types[name]["max_workers"] for name in ("gpu", "gpu-spot")) == written(cloud)["max_workers"]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_node_asks_for_the_token_and_has_it(cloud: str) -> None:
    full = prepared(cloud)
    options = " ".join(full["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    (secrets,) = full["file_mounts"]
    assert f"--env RAY_AUTH_TOKEN_PATH={secrets}/auth_token" in options
    assert any("--dashboard-host=127.0.0.1" in command for command in full["head_start_ray_commands"])
    assert all("ray-3.0.0.dev0" not in command for command in full["setup_commands"])  # the default: a nightly Ray


@pytest.mark.parametrize("cloud", CLOUDS)
def test_images_are_of_this_version(cloud: str) -> None:
    docker = written(cloud)["docker"]
    assert docker["head_image"].endswith(f"/whisperfleet:{metadata.version('whisperfleet')}-cpu@sha256:CHANGE")
    assert docker["worker_image"].endswith(f"/whisperfleet:{metadata.version('whisperfleet')}-cuda@sha256:CHANGE")


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_the_head_needs_more_goes_where_it_may_write_and_is_found_there(cloud: str) -> None:
    full = prepared(cloud)
    (command,) = full["head_setup_commands"]
    target = re.search(r"pip install --target (/home/ray/\w+) ", command)
    assert target and f"--env PYTHONPATH=/app:{target[1]}" in full["docker"]["run_options"]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An AWS in this process, and the file with what there is in it where it says CHANGE."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where Ray keeps the key that it makes
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        config = written("aws")
        iam = boto3.client("iam", config["provider"]["region"])
        profile = iam.create_instance_profile(InstanceProfileName=PROFILE)["InstanceProfile"]["Arn"]
        ec2 = boto3.client("ec2", config["provider"]["region"])
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        for node_type in config["available_node_types"].values():
            node_type["node_config"]["ImageId"] = image
            if "IamInstanceProfile" in node_type["node_config"]:
                node_type["node_config"]["IamInstanceProfile"] = {"Arn": profile}
        monkeypatch.setattr(
            aws.time, "sleep", lambda seconds: None
        )  # for a role that AWS takes 15 s to know everywhere
        yield config


@pytest.mark.medium
def test_aws_starts_the_nodes_that_the_file_asks_for(cloud: dict[str, Any]) -> None:
    full = aws.bootstrap_aws(prepare_config(cloud))
    provider = AWSNodeProvider(full["provider"], full["cluster_name"])
    tags = {TAG_RAY_NODE_KIND: "worker", TAG_RAY_CLUSTER_NAME: full["cluster_name"]}
    for node_type in full["available_node_types"].values():
        provider.create_node(node_type["node_config"], tags, 1)
    reservations = boto3.client("ec2", full["provider"]["region"]).describe_instances()["Reservations"]
    instances = [instance for reservation in reservations for instance in reservation["Instances"]]
    assert Counter((one["InstanceType"], one.get("InstanceLifecycle")) for one in instances) == {
        ("m6i.xlarge", None): 1,
        ("g6.2xlarge", None): 1,
        ("g6.2xlarge", "spot"): 1,
    }


@pytest.mark.medium
def test_the_endpoint_s_file_is_what_serve_deploys() -> None:
    serve_files.check(written("serve"))


@pytest.mark.parametrize("path", [(), ("http_options",), ("applications", 0), ("applications", 0, "deployments", 0)])
def test_a_slip_of_the_pen_in_it_is_caught(path: tuple[str | int, ...]) -> None:
    config = written("serve")
    section: Any = config
    for name in path:
        section = section[name]
    section["route_prefx"] = "/"
    assert list(serve_files.unknown(config)) == ["route_prefx"]
