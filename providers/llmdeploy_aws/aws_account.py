"""`aws_account`: the account that the credentials belong to, and the ARNs that its number is part of.

STS: GetCallerIdentity. Nothing is made; a wrong account is told before anything is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from llmdeploy.sdk import FieldChange, Identity, Outputs, Replace, Traits, Tree

from ._names import account_arns
from ._spec import AwsSpec, AwsType


class AccountSpec(AwsSpec):
    """account: the account that it must be; None: whichever the credentials belong to."""

    account: Annotated[str | None, Replace("another account holds none of these resources")] = None


class AccountOutputs(Outputs):
    """account: its number. root_arn: what a policy calls the whole account. log_groups_arn: of all log groups of llmdeploy."""

    account: str
    root_arn: str
    log_groups_arn: str


class AwsAccount(AwsType[AccountSpec, AccountOutputs]):
    """An account, as it is found."""

    name: ClassVar[str] = "aws_account"
    service: ClassVar[str] = "sts"
    spec = AccountSpec
    outputs = AccountOutputs

    def _replace_reason(self, change: FieldChange) -> str:
        # Naming the account that it is, or no longer naming it, makes no other one of it.
        named = change.path != "account" or None not in (change.before, change.after)
        return super()._replace_reason(change) if named else ""

    def predict(self, values: Mapping[str, Tree], identity: Identity) -> Mapping[str, Tree]:
        """Everything follows from the number, once it is named."""
        del identity
        account = values.get("account")
        return account_arns(str(values["region"]), account) if isinstance(account, str) else {}

    def traits(self, values: Mapping[str, Tree]) -> Traits:
        """An account lies in no region."""
        del values
        return self._global()


RESOURCE = AwsAccount()
