"""Fixtures: an object store of this machine, and a fresh bucket in it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from llmdeploy.state import aws
from tests.lab.object_store import REGION, ObjectStore, object_store


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """Return a running server."""
    with object_store(tmp_path_factory.mktemp("object-store") / "log") as server:
        yield server


@pytest.fixture
def bucket_name(store_server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a fresh bucket with versioning; this process talks to the server."""
    for name, value in store_server.environ.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    name = f"states-{uuid4().hex[:12]}"
    client = aws.client("s3", REGION, 10)
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    client.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    return name
