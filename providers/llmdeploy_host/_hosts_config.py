"""The body of `provider: {hosts: [...]}`: machines that somebody owns, reached over SSH."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from llmdeploy.sdk import SecretRef

from ._connection import Connection

_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z")
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{40,1000}={0,2}\Z")
_JUMP = re.compile(r"([a-z_][a-z0-9_-]{0,31}@)?(?P<host>[^@:\s]+|\[[0-9a-fA-F:]+\])(:(?P<port>[0-9]{1,5}))?\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")


def _is_host(text: str) -> bool:
    if _HOST_NAME.match(text) and not re.fullmatch(r"[0-9.]+", text):
        return True
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False


def _address(value: str) -> str:
    if not _is_host(value):
        raise ValueError("must be a host name or an IP address, such as node-1.example.com or 10.0.0.11")
    return value


def _name(value: str) -> str:
    if not _NAME.match(value):
        raise ValueError("must be a short name: at most 40 small letters, digits and dashes")
    return value


def _user(value: str) -> str:
    if not _USER.match(value):
        raise ValueError("must be the name of a user, such as ubuntu")
    return value


def _host_key(value: str) -> str:
    if not _HOST_KEY.match(value):
        raise ValueError("must be the public key of the host: ssh-ed25519 AAAA..., as ssh-keyscan prints it after the address")
    return value


def _proxy_jump(value: str) -> str:
    found = _JUMP.match(value)
    if not found or not _is_host(found["host"].strip("[]")) or not 0 < int(found["port"] or 22) < 65536:
        raise ValueError("must be USER@HOST:PORT of the machine to go through; user and port may be left out")
    return value


class HostGpus(BaseModel):
    """The GPUs of one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(min_length=1, max_length=64, description="GPU of the catalogue, for example l40s.")
    count: int = Field(default=1, ge=1, le=16, strict=True, description="How many of them the machine has.")


class HostConfig(BaseModel):
    """One machine: how it is reached, and what is known of its hardware."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: Annotated[str, AfterValidator(_address)] = Field(description="Host name or IP address of the machine.")
    user: Annotated[str, AfterValidator(_user)] = Field(default="root", description="User that logs in.")
    name: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None, description="Name of the machine in plans; default: made from its address."
    )
    port: int = Field(default=22, ge=1, le=65535, strict=True, description="TCP port of SSH.")
    host_key: Annotated[str, AfterValidator(_host_key)] | None = Field(
        default=None, description="Public key of the host, so that nobody else can answer in its place: ssh-ed25519 AAAA..."
    )
    proxy_jump: Annotated[str, AfterValidator(_proxy_jump)] | None = Field(
        default=None, description="Machine to go through: USER@HOST:PORT."
    )
    identity: SecretRef | None = Field(
        default=None, description="Reference to the private key that logs in, file:PATH; left out: the SSH agent."
    )
    sudo: bool | None = Field(
        default=None, strict=True, description="Whether sudo is needed to become root; left out: unless the user is root."
    )
    gpus: HostGpus | None = Field(
        default=None, description="GPUs of the machine, {type, count}; left out: read from the machine at apply."
    )
    memory_gib: int | None = Field(default=None, ge=1, le=2**20, strict=True, description="Main memory in GiB, if known.")
    disk_gib: int | None = Field(
        default=None, ge=1, le=2**20, strict=True, description="Free disk for model and engine in GiB, if known."
    )

    @field_validator("sudo")
    @classmethod
    def _becomes_root(cls, sudo: bool | None, info: ValidationInfo) -> bool | None:
        if sudo is False and info.data.get("user", "root") != "root":
            raise ValueError("this user is not root: leave sudo out, and allow it passwordless sudo on the machine")
        return sudo

    @property
    def key(self) -> str:
        """Its name in addresses of resources."""
        return self.name or re.sub(r"[^a-z0-9]+", "-", self.address.lower()).strip("-")[:63]

    @property
    def connection(self) -> Connection:
        """How it is reached."""
        return Connection(
            transport="ssh",
            address=self.address,
            port=self.port,
            user=self.user,
            host_key=self.host_key,
            proxy_jump=self.proxy_jump,
            identity=self.identity,
            sudo=self.user != "root" if self.sudo is None else self.sudo,
        )


class HostsConfig(RootModel[Annotated[tuple[HostConfig, ...], Field(json_schema_extra={"minItems": 1})]]):
    """The machines of `provider: {hosts: [...]}`, in the order in which they are used."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="after")
    def _unique(self) -> HostsConfig:
        # Not a bound of the field: pydantic would count the members without the wrong ones.
        problems = list(_repeated(self.root)) if self.root else [_problem((), "must list at least one machine")]
        if problems:
            raise ValidationError.from_exception_data("hosts", problems)
        return self


def _repeated(hosts: tuple[HostConfig, ...]) -> Iterator[InitErrorDetails]:
    addresses: set[tuple[str, int]] = set()
    names: set[str] = set()
    for index, host in enumerate(hosts):
        place = (host.address.lower(), host.port)
        if place in addresses:
            yield _problem((index, "address"), f"the machine {host.address} stands above already: one entry for each machine")
        elif host.key in names:
            field = "name" if host.name else "address"
            yield _problem((index, field), f'a machine named "{host.key}" stands above: give one of them another name')
        addresses.add(place)
        names.add(host.key)


def _problem(at: tuple[int | str, ...], sentence: str) -> InitErrorDetails:
    return InitErrorDetails(type=PydanticCustomError("host", "{sentence}", {"sentence": sentence}), loc=at, input=None)
