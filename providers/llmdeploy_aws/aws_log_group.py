"""`aws_log_group`: where the gateways' log of metadata is kept.

CloudWatch Logs: CreateLogGroup, PutRetentionPolicy; DescribeLogGroups; AssociateKmsKey, TagResource; DeleteLogGroup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import field_validator

from llmdeploy.sdk import CostLine, DataFlow, Identity, Input, NotDiffed, Outputs, Replace, Tariff, Traits, Tree

from ._names import dns_suffix
from ._spec import AwsType, TaggedSpec, custody
from ._usage import LOG_LINES, log_gb

RETENTION_DAYS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""What PutRetentionPolicy takes."""

_DAYS_PER_MONTH = 365 / 12


class LogGroupSpec(TaggedSpec):
    """wanted_retention_days: what the stack file says, no part of a call; the API knows few values, and the next one is taken."""

    log_group_name: Annotated[str, Replace("a log group cannot be renamed")]
    log_group_class: Annotated[Literal["STANDARD"], Replace("the class of a log group cannot change")] = "STANDARD"
    kms_key_id: Input[str]
    retention_in_days: int
    wanted_retention_days: Annotated[int, NotDiffed()]

    @field_validator("retention_in_days")
    @classmethod
    def _known(cls, value: int) -> int:
        if value not in RETENTION_DAYS:
            raise ValueError(f"CloudWatch Logs keeps for {', '.join(map(str, RETENTION_DAYS))} days")
        return value


class LogGroupOutputs(Outputs):
    """arn: of the group; streams_arn: of every stream in it."""

    log_group_name: str
    arn: str
    streams_arn: str


class AwsLogGroup(AwsType[LogGroupSpec, LogGroupOutputs]):
    """Log lines, encrypted with the stack's key."""

    name: ClassVar[str] = "aws_log_group"
    service: ClassVar[str] = "logs"
    spec = LogGroupSpec
    outputs = LogGroupOutputs

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """The name is the one asked for."""
        del identity
        return {"log_group_name": values["log_group_name"]}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """Records, kept for as long as the API's nearest value. CloudWatch Logs encrypts them always; whose key it is counts."""
        kept, wanted = values["retention_in_days"], values["wanted_retention_days"]
        note = f"log lines are kept for {kept} days: CloudWatch Logs cannot keep them for exactly {wanted}"
        region = values["region"]
        lines = DataFlow(
            what="log lines of the gateways", to=f"logs.{region}.{dns_suffix(region)}", region=region, carries="records"
        )
        return self._told(
            values,
            at_rest="encrypted",
            custody=custody(values["kms_key_id"]),
            in_transit="encrypted",
            exposure="private",
            leaves_region=False,
            retention_days=kept,
            data_flows=(lines,),
            erased=True,
            notes=(note,) if kept != wanted else (),
        )

    def cost(self, values: Mapping[str, Tree], tariff: Tariff) -> tuple[CostLine, ...]:
        """Return what comes in, and what lies there once it is full."""
        month_gb, days = log_gb(tariff.usage), values["retention_in_days"]
        stored_gb = month_gb * days / _DAYS_PER_MONTH
        return (
            tariff.line("log lines taken in", month_gb, "logs.gb_ingested", "month", note=LOG_LINES),
            tariff.line("log lines kept", stored_gb, "logs.gb_month", "month", note=f"once {days} days are there; {LOG_LINES}"),
        )


def retention(days: int) -> int:
    """Return the shortest time that the API can keep lines for and that is not less than `days`."""
    return next((known for known in RETENTION_DAYS if known >= days), RETENTION_DAYS[-1])


RESOURCE = AwsLogGroup()
