"""A bucket and the two roles of the examples, on moto's server, which holds every call to the rights of its role."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib import import_module
from typing import Any

from tests.examples_ci.runner import CI

REGION = "eu-central-1"
BUCKET, PREFIX, STACK = "states", "team", "demo"
STATE = {"s3": {"bucket": BUCKET, "region": REGION, "prefix": PREFIX}}
Environ = dict[str, str]


@dataclass
class Cloud:
    """What a job gets when it becomes a role: the variables that `configure-aws-credentials` sets."""

    address: str
    roles: dict[str, Environ]

    def assume(self, arn: str) -> Environ:
        """Return the environment of a job in this role."""
        return self.roles[arn]


@contextmanager
def serving_cloud(*, hold_to_rights: bool = True) -> Generator[Cloud]:
    """Start the server, make the bucket and the roles, and from then on refuse what no policy allows.

    hold_to_rights: without it everything is allowed, and tokens of the platform can be exchanged, which moto cannot do with it.
    """
    argv = [sys.executable, "-m", "moto.server", "--port", "0"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            address = next(found[1] for line in server.stderr if (found := re.search(r"Running on (http://127\S+:\d+)", line)))
            roles = _prepare(address)
            threading.Thread(target=server.stderr.read, daemon=True).start()  # its log must not fill the pipe
            if hold_to_rights:
                _hold_to_rights(address.removeprefix("http://"))
            yield Cloud(address, roles)
        finally:
            server.kill()


def _hold_to_rights(host: str) -> None:
    """From the next call on, refuse what no policy allows."""
    connection = HTTPConnection(host, timeout=10)
    connection.request("POST", "/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    assert connection.getresponse().status == 200
    connection.close()


def policy(role: str) -> str:
    """Return the example's policy of a role, filled in as its reader fills it in."""
    text = (CI / f"{role}-role.json").read_text()
    for name, value in (("BUCKET", BUCKET), ("PREFIX", PREFIX), ("STACK", STACK)):
        text = text.replace(name, value)
    return json.dumps(json.loads(text))


def _prepare(address: str) -> dict[str, Environ]:
    def client(service: str) -> Any:
        keys = {"aws_access_key_id": "admin", "aws_secret_access_key": "admin"}
        return import_module("boto3").client(service, endpoint_url=address, region_name=REGION, **keys)

    s3, iam, sts = client("s3"), client("iam"), client("sts")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    roles: dict[str, Environ] = {}
    for role in ("plan", "apply"):
        arn: str = iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        iam.put_role_policy(RoleName=role, PolicyName="state", PolicyDocument=policy(role))
        session = sts.assume_role(RoleArn=arn, RoleSessionName="ci")["Credentials"]
        roles[arn] = {
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": session["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": session["SecretAccessKey"],
            "AWS_SESSION_TOKEN": session["SessionToken"],
        }
    return roles
