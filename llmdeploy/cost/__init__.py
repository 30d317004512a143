"""What a stack costs: its bill, the cost of a million tokens, and from which volume on it is cheaper than a hosted API. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..diagnostics import nearest
from ..errors import LlmdeployError
from ..prices import CostLine, Tariff, Usage
from ..resource import Tree
from .billing import Ledger, Node, Types, bill
from .break_even import Crossing, SelfHosted, blended, crossover, hosted_usd
from .document import UTILIZATIONS, Accounts, document, line_document, tokens_text, usd_per_million, with_prior
from .volume import Assumptions, Fleet, usage

if TYPE_CHECKING:
    from ..catalog import HostedModel

__all__ = [
    "UTILIZATIONS",
    "Accounts",
    "Assumptions",
    "Basis",
    "Crossing",
    "Fleet",
    "Ledger",
    "Node",
    "Reckoning",
    "SelfHosted",
    "Types",
    "bill",
    "blended",
    "crossover",
    "document",
    "hosted_usd",
    "line_document",
    "reckon",
    "tokens_text",
    "usage",
    "usd_per_million",
    "usual",
    "with_prior",
]


@dataclass(frozen=True)
class Basis:
    """All that the cost of a stack is reckoned from, but for the assumptions.

    ledger: what is paid for. fleet: what it carries, None when nobody predicts it. hosted: prices of hosted APIs by name; usual:
    names of those that a plan compares with. stale: sentences about tables that are old.
    """

    ledger: Ledger = field(default_factory=Ledger)
    fleet: Fleet | None = None
    hosted: Mapping[str, HostedModel] = field(default_factory=dict[str, Any])
    usual: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reckoning:
    """What came out: the tariff that the lines were made with, the bill, and the document."""

    tariff: Tariff
    lines: tuple[CostLine, ...]
    economics: Mapping[str, Tree]


def reckon(basis: Basis, assumptions: Assumptions | None = None, against: Sequence[str] | None = None) -> Reckoning:
    """Bill a stack at its expected usage and compare it with hosted APIs. against: their names, None for the usual ones.

    Raises:
        LlmdeployError: the catalogue has no hosted API of such a name.
    """
    assumed = assumptions or Assumptions()
    ledger, fleet = basis.ledger, basis.fleet
    tariff = Tariff(ledger.prices, usage(fleet, assumed, ledger.weights_bytes))
    unused = Tariff(ledger.prices, Usage(weights_bytes=ledger.weights_bytes))
    accounts = Accounts(
        lines=bill((*ledger.machines, *ledger.shared), ledger.types, tariff),
        machines=bill(ledger.machines, ledger.types, unused),
        shared=bill(ledger.shared, ledger.types, unused),
        fleet=fleet,
        assumptions=assumed,
        against=_chosen(basis.usual if against is None else against, basis.hosted),
        stale=basis.stale,
    )
    return Reckoning(tariff, accounts.lines, document(accounts))


def _chosen(names: Sequence[str], hosted: Mapping[str, HostedModel]) -> tuple[HostedModel, ...]:
    for name in names:
        if name not in hosted:
            hint = nearest(name, hosted) or "`llmdeploy catalog list hosted` lists them"
            raise LlmdeployError(f'the catalogue has no hosted model "{name}"', hint=hint)
    return tuple(hosted[name] for name in dict.fromkeys(names))


def usual(model: str, hosted: Mapping[str, HostedModel]) -> tuple[str, ...]:
    """Return the names that a plan compares with: the catalogue's first, the same model at its cheapest, another's first.

    model: id in the stack file. A row whose name without its provider's is the beginning of the id is the same model. What is to
    be switched off is left out.
    """
    lasting = [one for one in hosted.values() if not one.ends]
    first = next((one.name for one in lasting), "")
    other = next((one.name for one in lasting if one.provider != lasting[0].provider and not one.name.startswith(first)), "")
    named = model.rpartition("/")[2].lower()
    same = [one for one in lasting if named.startswith(one.name.removesuffix(f"-{one.provider}"))]
    cheapest = min(same, key=lambda one: (blended(one, Assumptions()), one.name)).name if same else ""
    return tuple(dict.fromkeys(name for name in (first, cheapest, other) if name))
