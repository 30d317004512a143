"""Looks at everything that state knows."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ProviderError
from ..sdk import Prior, Provider, ReadRequest, ReadResult, Run
from ..state.model import Entry, State


def prior_of(entry: Entry, read: ReadResult | None = None) -> Prior:
    """Return what a type sees of `entry` after `read`."""
    return Prior(
        address=entry.address,
        id=entry.id,
        spec=entry.spec,
        outputs=entry.outputs if read is None or read.outputs is None else read.outputs,
        status=entry.status,
        generation=entry.generation,
        exists=read is None or read.exists or entry.status == "creating",
        drift=read.drift if read else (),
    )


def refresh(state: State, providers: Mapping[str, Provider], run: Run) -> dict[str, ReadResult]:
    """Return what each address looks like now: one batched call per provider.

    Raises:
        ProviderError: something could not be read; nothing is planned from a guess.
    """
    results: dict[str, ReadResult] = {}
    for name, provider in providers.items():
        entries = [entry for entry in state.entries.values() if entry.provider == name]
        requests = [ReadRequest(entry.type, prior_of(entry)) for entry in entries]
        results.update((result.address, result) for result in provider.refresh(run, requests))
    unreadable = [f"{result.address}: {result.error}" for result in results.values() if result.error]
    if unreadable:
        raise ProviderError("could not read what exists:\n" + "\n".join(unreadable), hint="check that the machine is reachable")
    return results
