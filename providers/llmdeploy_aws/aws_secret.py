"""`aws_secret`: an API key, minted once and kept where only its principal can read it. Gateways get its hash.

Secrets Manager: CreateSecret, PutResourcePolicy; DescribeSecret, GetResourcePolicy; PutSecretValue, UpdateSecret, TagResource;
DeleteSecret, RestoreSecret. The key itself is in no state, plan or log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from llmdeploy.sdk import CostLine, Input, Outputs, Replace, Tariff, Traits, Tree

from ._policy_facts import secret_grants, secret_readers
from ._spec import AwsType, Policy, TaggedSpec, custody

_READS_PER_MONTH = 730


class SecretSpec(TaggedSpec):
    """name: of the secret. principal: who may read it. max_age_days: ends the key; no parameter of a call."""

    name: Annotated[str, Replace("a secret cannot be renamed")]
    description: str
    kms_key_id: Input[str]
    principal: str
    max_age_days: Annotated[int, Field(ge=1)]
    resource_policy: Policy
    block_public_policy: bool = True
    recovery_window_in_days: Annotated[int, Field(ge=7, le=30)]


class Credential(BaseModel):
    """One key that is or was valid, without the key. Times are seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: str
    sha256: str
    not_before: int
    not_after: int
    location: str | None
    revoked: bool = False


class SecretOutputs(Outputs):
    """location: the secret's ARN, which the principal reads. credentials: the current one first."""

    location: str
    credentials: tuple[Credential, ...]
    ended: tuple[str, ...] = ()


class AwsSecret(AwsType[SecretSpec, SecretOutputs]):
    """An API key in Secrets Manager."""

    name: ClassVar[str] = "aws_secret"
    service: ClassVar[str] = "secretsmanager"
    spec = SecretSpec
    outputs = SecretOutputs
    changing_outputs: ClassVar[frozenset[str]] = frozenset({"credentials", "ended"})

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Secrets Manager encrypts always; whose key it is counts, and whom its policy lets read the API key."""
        policy, principal = values["resource_policy"], values["principal"]
        return self._told(
            values,
            at_rest="encrypted",
            custody=custody(values["kms_key_id"]),
            secret="api-key",  # noqa: S106 - its kind
            in_transit="encrypted",
            exposure="private",
            leaves_region=False,
            erased=True,
            readers=secret_readers(policy, principal),
            wide_grants=secret_grants(policy, principal),
            principal=principal,
            max_age_days=values["max_age_days"],
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return the secret by the month, and what reading it costs there and in KMS."""
        del values
        note, count = "assumed: its principal reads it once an hour", _READS_PER_MONTH / 10_000
        return (
            tariff.line("secret of an API key", 1, "secrets.secret_month", "month"),
            tariff.line("reads of API keys", count, "secrets.10k_calls", "month", note=note),
            tariff.line("decryption of API keys", count, "kms.10k_requests", "month", note=note),
        )


RESOURCE = AwsSecret()
