"""What compliance judges of a gateway before it exists, and what its plan says of where requests go. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from llmdeploy.sdk import DataFlow, Traits, Tree

from ._gateway_spec import LOG_FIELDS

ALWAYS_GUARDED = ("no-query", "own-request-ids")
"""What haproxy.cfg does in any case; `generic-errors` is asked for."""


def gateway_traits(values: Mapping[str, Tree]) -> Traits:
    """Return what a gateway with these values will be."""
    return Traits(
        in_transit="encrypted",
        tls_min="1.2",
        exposure="private" if values.get("behind") else exposure_of(values["address"]),
        authenticated=True,
        data_flows=tuple(_flows(values)),
        retention_days=values["log_retention_days"],
        log_fields=LOG_FIELDS,
        guards=(*(("generic-errors",) if values.get("generic_errors") else ()), *ALWAYS_GUARDED),
        stored_keys="hashes",
        private=True,
        content_found=(),
    )


def exposure_of(address: str) -> Literal["host", "private", "public"]:
    """Return who can open a connection to an IP address of this machine."""
    ip = ip_address(address)
    if ip.is_loopback:
        return "host"
    # 0.0.0.0 counts as private for Python; here it means every address, public ones too.
    return "private" if ip.is_private and not ip.is_unspecified else "public"


def routes(values: Mapping[str, Tree]) -> Iterator[str]:
    """Say where requests go beside the engines of the machine."""
    if peers := values.get("peers"):
        count, port = len(peers), values.get("peer_port")
        others = "1 other machine" if count == 1 else f"{count} other machines"
        through = f"through their gateways on TCP {port}" if port else "through their gateways"
        yield f"also sends requests to the replicas of {others}, {through}: TLS with certificates on both sides"
    if fallback := values.get("fallback"):
        names = ", ".join(str(key["name"]) for key in values.get("keys") or () if key.get("allow_fallback"))
        who = f"for the keys that allow it ({names})" if names else "for no key: none of them sets allow_fallback"
        yield f"sends requests that no replica can take to {_host_of(fallback)} (model {fallback['model']}), {who}"


def not_built(values: Mapping[str, Tree]) -> Iterator[tuple[str, str]]:
    """Return what of the values this version plans and does not make, each with what to do about it."""
    if values.get("peers"):
        yield "gateways that know the replicas of other machines can be planned and not made by this version", "set replicas: 1"
    if values.get("fallback"):
        yield "a hosted fallback can be planned and not made by this version", "take gateway.fallback out of the stack file"


def _flows(values: Mapping[str, Tree]) -> Iterator[DataFlow]:
    if fallback := values.get("fallback"):
        yield DataFlow(what="prompts that no replica can take", to=_host_of(fallback), carries="prompts")


def _host_of(fallback: Mapping[str, Tree]) -> str:
    return urlsplit(str(fallback["base_url"])).hostname or ""
