"""The part of the stack file that says which rules it must keep, and what the operator states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ..policy import Endpoint
from .part import Part
from .words import Country, HostName, Line, Profile, Residency


class AiAct(Part):
    """What the operator declares under the EU AI Act."""

    role: Literal["provider", "deployer"] = Field(description="Your role in the sense of the Act.")
    high_risk: bool = Field(description="Whether the use is listed as high-risk.")
    intended_purpose: Line = Field(description="What the system is for, in one sentence.")


class Attest(Part):
    """What the operator states and no program can check."""

    baa: bool = Field(default=False, description="A business associate agreement covers this account or site.")
    dpa: bool = Field(default=False, description="Processor agreements exist where others process the data.")
    ropa: bool = Field(default=False, description="The record of processing activities holds this system.")
    dpia: bool = Field(default=False, description="An impact assessment was made, or is not needed.")
    mirrors: bool = Field(
        default=False, description="Packages, images and model files come from servers inside the site, and were checked there."
    )
    adequacy_conditions: tuple[Country, ...] = Field(
        default=(), strict=False, description="Countries whose adequacy decision has a condition, and whose condition is met."
    )
    ai_act: AiAct | None = Field(default=None, description="Role, risk class and purpose under the EU AI Act.")


class StatedEndpoint(Part):
    """Where a server stands. Short form: the country."""

    country: Country = Field(description="Two capital letters, such as DE; or `site`: a server of your own, inside the site.")
    agreement: bool = Field(default=False, description="A processor agreement (GDPR Art. 28, HIPAA BAA) covers it.")

    @property
    def place(self) -> Endpoint:
        """What the policy carries of it."""
        return Endpoint(self.country, self.agreement)


def _endpoint(value: object) -> object:
    return {"country": value} if isinstance(value, str) else value


class Compliance(Part):
    """The profiles that judge the stack; the strictest wins. Short form: the list of profiles."""

    profiles: tuple[Profile, ...] = Field(default=(), strict=False, description="Names of the profiles.")
    residency: Residency | None = Field(
        default=None,
        description="Where data may lie and go: eu, eea (also Iceland, Liechtenstein, Norway), or adequate (also countries with"
        " an adequacy decision).",
    )
    attest: Attest = Field(default=Attest(), description="What you state yourself; it is reported as stated, not verified.")
    endpoints: Mapping[
        HostName,
        Annotated[StatedEndpoint, BeforeValidator(_endpoint, json_schema_input_type=StatedEndpoint | Country)],
    ] = Field(
        default_factory=dict[str, StatedEndpoint],
        max_length=1000,
        description="Where servers stand that data goes to, by host name: a country, or {country, agreement}.",
    )
