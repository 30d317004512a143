"""What compliance judges of a resource: facts about data, never type names.

The same facts are told twice: by a type, of what its spec will make (`ResourceType.traits`), and by a probe, of what is really
there (`evidence.Observation`). A control reads both with one rule.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

AtRest = Literal["encrypted", "plain", "none"]
InTransit = Literal["encrypted", "local", "plain", "none"]
Exposure = Literal["none", "host", "private", "public"]
Custody = Literal["none", "operator-file", "reference", "kms"]
SecretKind = Literal["", "volume-key", "ca-key", "tls-key", "api-key"]
Carries = Literal["prompts", "records", "requests"]
Egress = Literal["none", "listed", "open"]
TlsVersion = Literal["none", "1.0", "1.1", "1.2", "1.3"]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFlow(_Noun):
    """Data that leaves for somewhere: what it is, to whom (a host name where there is one), into which region or country.

    carries: `prompts` (what clients ask and are answered), `records` (logs, telemetry, traces: what is known of requests), or
    `requests` (something is fetched: the other side learns who asks for what file).
    """

    what: str
    to: str
    region: str | None = None
    carries: Carries = "requests"


class Software(_Noun):
    """A program that serves, with its exact version."""

    name: str
    version: str


class EngineProcess(_Noun):
    """The process of an inference engine as it is started or was found running: arguments and environment, no secrets."""

    engine: str
    argv: tuple[str, ...]
    env: dict[str, str] = Field(default_factory=dict[str, str])


class Traits(_Noun):
    """Facts of one resource. None, and an empty text, mean that the fact does not concern it or is not known before it exists.

    Where it is
      region: where it lies (a cloud region, a country or a label), None when it lies nowhere of its own. processor: who runs it
      for the operator, "" for a machine of one's own. service: name of the processor's service, as the processor spells it.
      leaves_region: whether copies of it may lie in another region (replication, keys of several regions).
    Data at rest
      at_rest: how the data it stores lies on disk; "none" when it stores nothing that matters. erased: whether removing it makes
      the data unreadable. intact: whether its files have exactly the digests that the lock file names. private: whether other
      users of the machine can read none of its files. content_found: where planted content was found again.
    Secrets
      custody: where the secret lies that protects it; secret: what kind of secret that is. key_rotation_days: how old an
      encryption key grows before it is replaced; 0: it never is. stored_keys: how API keys are kept. readers: who can read the
      secret that it stores. principal: whom an API key is bound to. max_age_days: how long an API key is valid.
    Data in transit
      in_transit: how data moves to and through it; "local" never leaves the machine's kernel. tls_min: the oldest TLS version
      that it accepts; "none" means plain text is. exposure: who can open a connection to it. authenticated: whether it answers
      only who shows an API key. data_flows: what it sends elsewhere. egress: where it can open connections to: nowhere, to
      listed places, anywhere.
    Records and content
      retention_days: how long it keeps records, None when it keeps none. log_fields: names of the fields of its log lines.
      guards: what it does so that content does not get where it can be kept: `generic-errors`, `no-query`, `own-request-ids`.
      process: the engine's process. swap: where memory goes when it is short. core_dumps: whether a crash writes memory to disk.
    What it is made of
      pinned: whether everything it installs is named by digest or exact version; None when it installs nothing. formats: of its
      model files: `safetensors`, `gguf`, `pickle`. software: programs that serve.
    The machine and its rights
      machine: whether it is a machine with an operating system. privileged: whether it runs with rights that it does not need.
      ssh_passwords: whether SSH takes passwords. host_key_pinned: whether only one SSH host key is believed to be the machine's;
      None where it is not reached over SSH. metadata_guarded: whether a cloud's instance metadata needs a token and one hop.
      wide_grants: permissions it gives that are wider than needed, as sentences. updates_pending: security updates that are not
      installed. clock_synced: whether a time service keeps its clock.
    notes: sentences that the plan must say loudly.
    """

    region: str | None = None
    processor: str = ""
    service: str = ""
    leaves_region: bool | None = None

    at_rest: AtRest = "none"
    erased: bool | None = None
    intact: bool | None = None
    private: bool | None = None
    content_found: tuple[str, ...] | None = None

    custody: Custody = "none"
    secret: SecretKind = ""
    key_rotation_days: int | None = None
    stored_keys: Literal["hashes", "clear"] | None = None
    readers: Literal["principal", "others"] | None = None
    principal: str | None = None
    max_age_days: int | None = None

    in_transit: InTransit = "none"
    tls_min: TlsVersion | None = None
    exposure: Exposure = "none"
    authenticated: bool | None = None
    data_flows: tuple[DataFlow, ...] = ()
    egress: Egress | None = None

    retention_days: int | None = None
    log_fields: tuple[str, ...] | None = None
    guards: tuple[str, ...] | None = None
    process: EngineProcess | None = None
    swap: Literal["none", "encrypted", "plain"] | None = None
    core_dumps: bool | None = None

    pinned: bool | None = None
    formats: tuple[str, ...] | None = None
    software: tuple[Software, ...] | None = None

    machine: bool = False
    privileged: bool | None = None
    ssh_passwords: bool | None = None
    host_key_pinned: bool | None = None
    metadata_guarded: bool | None = None
    wide_grants: tuple[str, ...] | None = None
    updates_pending: int | None = None
    clock_synced: bool | None = None

    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the facts as JSON: the first few always, the others where they concern the resource."""
        facts = self.model_dump(mode="json")
        return {name: value for name, value in facts.items() if name in _ALWAYS or value not in (None, "", False)}


_ALWAYS = frozenset({"region", "at_rest", "in_transit", "exposure", "data_flows", "retention_days", "custody", "pinned", "notes"})
