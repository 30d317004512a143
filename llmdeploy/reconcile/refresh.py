"""Looks at everything that state knows, and for what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..errors import ProviderError
from ..registry import restored_config
from ..sdk import Found, Prior, Provider, ReadRequest, ReadResult, Renames, Run, Sweeper
from ..state.model import Entry, State
from ..state.upgrade import renamed_found
from .retry import Retry

T = TypeVar("T")


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


def refresh(state: State, providers: Mapping[str, Provider], run: Run, retry: Retry | None = None) -> dict[str, ReadResult]:
    """Return what each address looks like now: one batched call per provider.

    Raises:
        ProviderError: something could not be read; nothing is planned from a guess.
    """
    results: dict[str, ReadResult] = {}
    for name, provider in providers.items():
        entries = [entry for entry in state.entries.values() if entry.provider == name]
        requests = [ReadRequest(entry.type, prior_of(entry)) for entry in entries]
        read = _patient(lambda p=provider, r=requests: list(p.refresh(run, r)), run, retry)
        results.update((result.address, result) for result in read)
    unreadable = [f"{result.address}: {result.error}" for result in results.values() if result.error]
    if unreadable:
        raise ProviderError("could not read what exists:\n" + "\n".join(unreadable), hint="check that the machine is reachable")
    return results


def sweep(
    configs: Mapping[str, Mapping[str, object]], providers: Mapping[str, Provider], run: Run, retry: Retry | None = None
) -> list[Found]:
    """Return what carries the ownership tags of this stack. A stack without a lineage has nothing.

    configs: provider name -> its non-secret configuration.
    """
    if run.identity.lineage is None:
        return []
    found: list[Found] = []
    for name, config in configs.items():
        provider = providers[name]
        if isinstance(provider, Sweeper):
            wanted = restored_config(provider, config)
            table: Mapping[str, str] = provider.renamed if isinstance(provider, Renames) else {}
            swept = _patient(lambda p=provider, c=wanted: list(p.sweep(run, c)), run, retry)
            found += [renamed_found(one, table) for one in swept]
    return found


def _patient(call: Callable[[], Sequence[T]], run: Run, retry: Retry | None) -> Sequence[T]:
    return (retry or Retry()).call(call, abort=run.abort)
