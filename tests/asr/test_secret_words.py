from __future__ import annotations

import pytest

from asr.secret_words import is_secret_name, is_secret_value, may_be_told

AZURE = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PGPASSWORD",
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_SAS",
            "AZURE_STORAGE_SAS_TOKEN",
            "GITHUB_PAT",
        ),
        *("HFTOKEN", "SSHKEY", "AUTH", "HTTP_AUTH", "AWS_SECRET_ACCESS_KEY", "db_password", "MY_PASS", "KEY_ID2"),
        *(
            "HF_TOKEN_READ",
            "MYSQL_PWD",
            "SENTRY_DSN",
            "client-secret",
            "apiKey",
            "keys",
            "SLACK_WEBHOOK_URL",
            "SSHPASS",
        ),
    ],
)
def test_a_name_is_a_secret_s_although_no_line_parts_its_words(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("MONKEY", "KEYBOARD", "TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "PATH", "LD_LIBRARY_PATH", "BYPASS_PROXY"),
        *(
            "RAY_AUTH_MODE",
            "AUTHOR",
            "COMPASS",
            "OMP_NUM_THREADS",
            "SASL",
            "PATTERN",
            "DESIGN",
            "HF_HUB_OFFLINE",
            "TURKEY",
        ),
    ],
)
def test_an_ordinary_name_is_none(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        *("hf_abcdefghijklmnop", "x ghp_0123456789abcdef", "Bearer abc", "postgres://me:x@host/db", AZURE),
        *(
            "https://h/a?sv=1&sig=x%2B",
            "https://h/a?X-Amz-Algorithm=A&X-Amz-Signature=0f",
            "--token x --debug",
            "-p password=x",
        ),
        *("AKIAABCDEFGHIJKLMNOP", "-----BEGIN RSA PRIVATE KEY-----", "eyJhbGciOi.eyJzdWIi.x", "run --api-key=x"),
    ],
)
def test_a_value_is_a_secret_whatever_its_name(value: str) -> None:
    assert is_secret_value(value)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "INFO",
            "false",
            "http://host:80/a@b",
            "a=b",
            "--level debug",
            "/models/hf_cache",
            "s3://bucket/a?region=eu",
            "",
        ),
        *("expandable_segments:True,garbage_collection_threshold:0.8", "banana", "eth0,eth1", "hf_transfer"),
    ],
)
def test_an_ordinary_value_is_none(value: str) -> None:
    assert not is_secret_value(value)


def test_what_is_told_back_is_no_secret_however_deep_it_lies() -> None:
    assert may_be_told("optim.max_steps", "many") and may_be_told("data.train", [{"source": "a.jsonl"}])
    assert not may_be_told("keys", "a") and not may_be_told("keys.0.name", "a")
    assert not may_be_told("port", [{"inner": {"key": "a"}}])
    assert not may_be_told("model", "https://me:pass@host/a")
