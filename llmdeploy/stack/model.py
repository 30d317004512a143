"""The stack file as frozen models: every key of its contract, its unit, and the pairs that cannot go together.

Short forms (`engine: vllm`, `compliance: [gdpr]`, `context: 32K`) are normalised here, so that every reader sees one form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    RootModel,
    SerializeAsAny,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from ..diagnostics import nearest
from . import requirement
from .compliance import AiAct, Attest, Compliance, StatedEndpoint
from .part import Part
from .terms import Text, mapping, problem, refuse, refuse_lines, shown
from .words import (
    ENGINES,
    INSTEAD,
    KNOWN_PROVIDERS,
    OWNED_PROVIDERS,
    PROFILES,
    RENDERED_ARGS,
    SERVED_NAME,
    Encryption,
    EngineName,
    HostName,
    Label,
    Line,
    ModelId,
    Profile,
    Quant,
    Reference,
    Source,
    Tokens,
    Unlock,
    VariableName,
    Word,
    source_of,
)

__all__ = [
    "ENGINES", "KNOWN_PROVIDERS", "PROFILES", "RENDERED_ARGS",
    "AiAct", "Attest", "Compliance", "Engine", "Fallback", "Gateway", "Hardware", "Installed", "Key", "LocalState", "Logs",
    "Model", "ProviderChoice", "S3State", "Stack", "State", "StateEncryption", "StatedEndpoint", "Storage", "Tls",
]  # fmt: skip


@dataclass(frozen=True)
class Installed:
    """What validation is handed: the Config model of each installed provider, and llmdeploy's own version."""

    providers: Mapping[str, type[BaseModel]]
    version: str


class Model(Part):
    """The model to serve, and what it must be able to hold."""

    id: ModelId = Field(
        description="Catalogue name, Hugging Face repository (owner/name), s3://bucket/prefix, or a local path (./folder)."
    )
    quant: Quant = Field(default="auto", description="Number format of the weights; auto takes the best that fits.")
    variant: ModelId | None = Field(default=None, description="Another repository, which holds the quantized weights.")
    revision: (
        Annotated[str, Text(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "must be a commit, a tag or a branch of the repository")] | None
    ) = Field(default=None, description="Commit, tag or branch of the repository; `llmdeploy lock` pins it.")
    served_name: (
        Annotated[str, Text(SERVED_NAME, "must be one word of letters, digits and . _ : / -, at most 128 characters")] | None
    ) = Field(default=None, description="What clients put into `model`; default: the last part of the id.")
    context: Tokens | None = Field(
        default=None,
        description="Tokens per request that must fit: a number, or nK (=n*1024) such as 32K; left out: chosen by sizing.",
    )
    concurrency: int = Field(default=8, ge=1, le=100_000, description="Requests in flight that must fit per replica.")

    @property
    def source(self) -> Source:
        """Where the weights come from."""
        return source_of(self.id) or "catalogue"

    @property
    def name(self) -> str:
        """What clients put into `model`."""
        return self.served_name or _last_part(self.id)

    @model_validator(mode="after")
    def _pairs(self) -> Model:
        if self.revision is not None and self.source in ("folder", "s3") and self.variant is None:
            refuse(problem("only a repository or a catalogue name has revisions", hint="remove it", at=("revision",)))
        if self.served_name is None and not re.fullmatch(SERVED_NAME, _last_part(self.id)):
            refuse(problem("the last part of this id is no name for clients", hint="set model.served_name", at=("id",)))
        return self


def _last_part(model_id: str) -> str:
    return model_id.removeprefix("s3://").rstrip("/").rpartition("/")[2]


class Engine(Part):
    """The inference engine. Short form: its name."""

    name: EngineName = Field(default="vllm", description="Which engine serves the model.")
    version: Word | None = Field(default=None, description="Version of the engine; `llmdeploy lock` pins it.")
    runtime: Literal["auto", "container", "venv"] = Field(
        default="auto", description="A container, or a private virtual environment; auto on `local` is venv."
    )
    args: Mapping[str, Any] = Field(
        default_factory=dict[str, Any], description="More flags of the engine, by name without dashes in front."
    )

    @field_validator("args")
    @classmethod
    def _args(cls, args: Mapping[str, Any]) -> Mapping[str, Any]:
        found = [_argument(name) for name in args]
        if problems := [*(one for one in found if one), *refuse_lines(dict(args))]:
            refuse(*problems)
        return args


def _argument(name: str) -> InitErrorDetails | None:
    right = name.strip().lstrip("-").replace("_", "-").lower()
    if right in RENDERED_ARGS:
        return problem("llmdeploy sets this flag of the engine itself", hint=f"use {INSTEAD[right]}", at=(name,))
    if name != right or not re.fullmatch(r"[a-z][a-z0-9.-]{0,63}", name):
        hint = f"write {shown(right)}" if right and name != right else ""
        return problem("is not the name of a flag: small letters, digits and dashes", hint=hint, at=(name,))
    return None


class Hardware(Part):
    """The accelerators that one replica runs on."""

    gpu: Annotated[
        str, Text(r"[a-z0-9][a-z0-9_-]{0,31}", "must be auto, none, or the name of a GPU such as l40s (small letters)")
    ] = Field(default="auto", description="GPU of the catalogue, auto (the cheapest that fits) or none (CPU only).")
    count: int | None = Field(default=None, ge=1, le=1024, description="GPUs per replica; left out: chosen by sizing.")
    instance_type: Word | None = Field(default=None, description="Instance type of a provider that rents machines.")
    market: Literal["on-demand", "spot"] = Field(default="on-demand", description="How rented machines are paid.")

    @field_validator("count")
    @classmethod
    def _needs_gpu(cls, count: int | None, info: ValidationInfo) -> int | None:
        if count is not None and info.data.get("gpu") == "none":
            refuse(problem("does not go together with gpu: none", hint="remove one of them"))
        return count


class Storage(Part):
    """Where the weights lie, and how they are encrypted at rest."""

    encryption: Encryption = Field(default="auto", description="Encryption at rest; auto takes the best the machine has.")
    device: (
        Annotated[str, Text(r"/dev/[A-Za-z0-9._:/+-]{1,200}", "must be the path of a block device, such as /dev/disk/by-id/...")]
        | None
    ) = Field(default=None, description="Block device for the weights, by a stable name.")
    unlock: Unlock = Field(default="auto", description="What unlocks the volume after a reboot.")
    key: Reference | None = Field(default=None, description="Reference to the volume's key: env:NAME or file:PATH.")
    erase: tuple[Word, ...] = Field(
        default=(), strict=False, description="Serial numbers of the disks whose present content may be erased."
    )
    on_destroy: Literal["erase", "keep"] = Field(default="erase", description="What destroy does with the weights.")

    @field_validator("device", "unlock", "key")
    @classmethod
    def _fits_encryption(cls, value: str | None, info: ValidationInfo) -> str | None:
        encryption = info.data.get("encryption")
        clashes = {
            "key": encryption == "none",
            "unlock": encryption == "none" or (encryption == "gocryptfs" and value == "tpm2"),
            "device": encryption == "gocryptfs",
        }
        if value not in (None, "auto") and clashes[info.field_name or ""]:
            refuse(problem(f"does not go together with encryption: {encryption}", hint="remove one of them"))
        return value


class Tls(Part):
    """A certificate of your own. Left out, the stack has a certificate authority of its own."""

    cert: Reference = Field(description="Reference to the certificate chain (PEM), for example file:tls/chain.pem.")
    key: Reference = Field(description="Reference to the private key of the certificate (PEM).")


class Fallback(Part):
    """A hosted OpenAI-compatible API for requests that the stack cannot serve."""

    base_url: Annotated[
        str,
        Text(
            r"(https://[A-Za-z0-9.-]{1,253}|http://(127\.0\.0\.1|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,512})?",
            "must be an https:// address without user, password or query (http:// only on this machine)",
        ),
    ] = Field(description="Address of the API, for example https://api.example.com/v1.")
    model: Line = Field(description="Name of the model there.")
    api_key: Reference = Field(description="Reference to the API key: env:NAME or file:PATH.")


class Gateway(Part):
    """The HTTPS endpoint before the engines."""

    domain: HostName | None = Field(default=None, description="Host name that clients use and certificates carry.")
    port: int = Field(default=8443, ge=1, le=65535, description="TCP port of the endpoint.")
    tls: Tls | None = Field(default=None, description="Your own certificate: {cert: file:..., key: file:...}.")
    sticky: (
        Annotated[
            str, Text(r"[a-z0-9][a-z0-9-]{0,63}", "must be the name of a request header in small letters, such as x-session-id")
        ]
        | None
    ) = Field(default="x-session-id", description="Header whose requests go to the same replica; null: none.")
    fallback: Fallback | None = Field(default=None, description="A hosted API to fall back to: {base_url, model, api_key}.")


class Key(Part):
    """An API key, bound to the person or role who may use it."""

    name: Label = Field(description="Name of the key, unique in the stack.")
    principal: Line = Field(description="Who may use it: an IAM role or user, a local user, or a label.")
    recipient: (
        Annotated[
            str,
            Text(
                r"age1[0-9a-z]{10,100}|ssh-(ed25519|rsa) [A-Za-z0-9+/=]{20,8000}( [^\x00-\x1f\x7f]{0,200})?",
                "must be a public key: age1... or ssh-ed25519 ...",
            ),
        ]
        | None
    ) = Field(default=None, description="Public key (age or SSH) to which the API key is delivered encrypted.")
    requests_per_minute: int | None = Field(default=None, ge=1, le=10**9, description="Limit of requests per minute.")
    concurrency: int | None = Field(default=None, ge=1, le=10**6, description="Limit of requests in flight.")
    max_age_days: int | None = Field(default=None, ge=1, le=3650, description="Days until the key must be rotated.")
    allow_fallback: bool = Field(default=False, description="Whether its requests may go to the hosted fallback.")


class Logs(Part):
    """The gateway's log: metadata of requests, never their content."""

    retention_days: int = Field(default=30, ge=1, le=3650, description="Days that log lines are kept.")
    max_days: int | None = Field(
        default=None, ge=1, le=3650, description="Days after which no log line may be there, whatever a profile asks."
    )


class LocalState(Part):
    """State in `.llmdeploy/` beside the stack file."""


class S3State(Part):
    """State in an S3 bucket."""

    bucket: Annotated[
        str,
        Text(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "must be the name of a bucket: 3 to 63 small letters, digits, dots and -"),
    ] = Field(description="Name of the bucket.")
    region: Word = Field(description="Region of the bucket.")
    prefix: (
        Annotated[
            str,
            Text(
                r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){0,9}",
                "must be a path of letters, digits, dots, - and _, without a / at its ends",
            ),
        ]
        | None
    ) = Field(default=None, description="Folder in the bucket; the state lies in PREFIX/NAME OF THE STACK/.")
    kms_key: Line | None = Field(default=None, description="KMS key (ARN or alias) with which S3 encrypts each object.")


class StateEncryption(Part):
    """Encryption of the state by llmdeploy itself, before it is written: exactly one of passphrase and kms_key."""

    passphrase: Reference | None = Field(default=None, description="Reference to a passphrase: env:NAME or file:PATH.")
    kms_key: Line | None = Field(default=None, description="KMS key (ARN or alias) that makes and opens the data keys.")

    @model_validator(mode="after")
    def _one(self) -> StateEncryption:
        if (self.passphrase is None) == (self.kms_key is None):
            refuse(problem("must hold exactly one of passphrase and kms_key", hint='for example {passphrase: "env:STATE_KEY"}'))
        return self


class State(Part):
    """Where the state lies: exactly one of local and s3; and whether llmdeploy encrypts it."""

    local: LocalState | None = Field(default=None, description="In .llmdeploy/ beside the stack file: {}.")
    s3: S3State | None = Field(default=None, description="In a bucket: {bucket, region, prefix, kms_key}.")
    encryption: StateEncryption | None = Field(default=None, description="Encrypt it before writing: {passphrase} or {kms_key}.")

    @model_validator(mode="after")
    def _one(self) -> State:
        if (self.local is None) == (self.s3 is None):
            refuse(problem("must hold exactly one of local and s3", hint="for example {local: {}}"))
        return self


class ProviderChoice(Part):
    """The provider that brings the machines: `name`, and `config` in the provider's own model."""

    name: str = Field(description="Name of the provider.")
    config: SerializeAsAny[BaseModel] = Field(description="What the provider's own model made of the body.")

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(info.context, Installed):
            return value
        if isinstance(value, str):
            refuse(problem("must be a mapping with one key", hint=f"write {{{shown(value)}: {{}}}}"))
        bodies = mapping(value)
        if bodies is None:
            refuse(problem("must be a mapping with one key, the provider's name", hint="for example {local: {}}"))
        names = list(bodies)
        if len(names) != 1:
            at = tuple(names[1:2])
            refuse(problem(f"must hold exactly one provider, not {len(names)}", hint="for example {local: {}}", at=at))
        return {"name": names[0], "config": _provider_config(names[0], bodies[names[0]], info.context)}


def _provider_config(name: str, body: Any, installed: Installed) -> BaseModel:
    config = installed.providers.get(name)
    if config is None:
        if name in KNOWN_PROVIDERS:
            refuse(problem(f'provider "{name}" is valid but not part of this version', at=(name,)))
        hint = nearest(name[:64], {*KNOWN_PROVIDERS, *installed.providers})
        refuse(problem(f'unknown provider "{shown(name)}"', hint=hint, at=(name,)))
    if mapping(body) is None and not issubclass(config, RootModel):
        refuse(problem("must be a mapping", hint=f"write {name}: {{}} where there is nothing to say", at=(name,)))
    bodies: TypeAdapter[dict[str, BaseModel]] = TypeAdapter(dict[str, config])  # pyright: ignore[reportInvalidTypeForm] the model is known only at run time
    return bodies.validate_python({name: body})[name]


def _version(value: object) -> object:
    if type(value) is not int:
        refuse(problem("must be the whole number 1"))
    if value != 1:
        refuse(problem("this llmdeploy reads version 1 of the stack file", hint="a newer llmdeploy may read this one"))
    return value


def _engine(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _compliance(value: object) -> object:
    if isinstance(value, str):
        refuse(problem("must be a list of profiles", hint=f"write [{shown(value)}]"))
    return {"profiles": value} if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType] any list


class Stack(Part):
    """One stack: a model, where it runs, who may call it, and which rules it must keep."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="Version of this file format: 1.")
    required_version: str | None = Field(
        default=None, description='Versions of llmdeploy that may work on this stack, for example ">=0.1, <1".'
    )
    name: Label = Field(description="Name of the stack: small letters, digits and dashes.")
    variables: Mapping[VariableName, str | int | float | bool | None] = Field(
        default_factory=dict[str, str | int | float | bool | None],
        description="Variables and their defaults, used as ${var.name}; --var and --var-file change them.",
    )
    model: Model = Field(description="The model to serve, for example {id: llama-3.1-8b-instruct, context: 8K}.")
    engine: Annotated[Engine, BeforeValidator(_engine, json_schema_input_type=Engine | EngineName)] = Field(
        default=Engine(), description="The inference engine: its name, or {name, version, runtime, args}."
    )
    region: Word | None = Field(
        default=None, description="Region of the provider; for machines of your own a country or a label."
    )
    compliance: Annotated[Compliance, BeforeValidator(_compliance, json_schema_input_type=Compliance | list[Profile])] = Field(
        default=Compliance(), description="A list of profiles, or {profiles, residency, attest, endpoints}."
    )
    provider: ProviderChoice = Field(description="The provider that brings the machines: exactly one key, its name.")
    hardware: Hardware = Field(default=Hardware(), description="Accelerators of one replica: {gpu, count, ...}.")
    replicas: int = Field(default=1, ge=1, le=1000, description="How many copies of the model serve.")
    storage: Storage = Field(default=Storage(), description="Where the weights lie, and their encryption at rest.")
    gateway: Gateway = Field(default=Gateway(), description="The HTTPS endpoint.")
    keys: tuple[Key, ...] = Field(default=(), strict=False, max_length=10_000, description="API keys and their owners.")
    logs: Logs = Field(default=Logs(), description="The gateway's log of metadata.")
    prices: Mapping[Line, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict[str, float], description="Prices in USD by name, over those of the catalogue."
    )
    prevent_destroy: tuple[Word, ...] = Field(
        default=(),
        strict=False,
        max_length=1000,
        description="Addresses, as `plan` shows them, that no plan may delete or replace, for example [host_weights.local].",
    )
    state: State = Field(default=State(local=LocalState()), description="Where the state lies: {local: {}} or {s3: {...}}.")

    @field_validator("required_version")
    @classmethod
    def _requirement(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        parts = requirement.parse(value)
        if parts is None:
            refuse(problem("must be a comma list of >=, <=, ==, <, > with versions", hint='for example ">=0.1, <1"'))
        if isinstance(info.context, Installed) and not requirement.satisfied(parts, info.context.version):
            message = f"this is llmdeploy {info.context.version}, the stack wants {shown(value)}"
            refuse(problem(message, hint="install such a version"))
        return value

    @field_validator("hardware")
    @classmethod
    def _rented(cls, hardware: Hardware, info: ValidationInfo) -> Hardware:
        choice: ProviderChoice | None = info.data.get("provider")
        if choice is not None and choice.name in OWNED_PROVIDERS:
            rented = {"market": hardware.market == "spot", "instance_type": hardware.instance_type is not None}
            message = f'the provider "{choice.name}" rents no machines'
            if problems := [problem(message, hint="remove it", at=(field,)) for field, used in rented.items() if used]:
                refuse(*problems)
        return hardware

    @field_validator("keys")
    @classmethod
    def _unique(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        seen: set[str] = set()
        problems: list[InitErrorDetails] = []
        for index, key in enumerate(keys):
            if key.name in seen:
                problems.append(problem(f'a key named "{key.name}" stands above', hint="rename one", at=(index, "name")))
            seen.add(key.name)
        if problems:
            refuse(*problems)
        return keys
