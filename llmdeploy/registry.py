"""Finds installed providers. Built-in ones come through the same door as everybody else's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, RootModel

from .diagnostics import nearest
from .errors import LlmdeployError, NotBuilt
from .resource import Tree
from .sdk import PlansOnly, Provider, ResourceType

GROUP = "llmdeploy.providers"
_ROOT = "root"


def stored_config(config: BaseModel) -> dict[str, Tree]:
    """Return a provider's configuration as plan and state keep it: always a mapping, also where the stack file has a list."""
    tree: Tree = config.model_dump(mode="json")
    return {_ROOT: tree} if isinstance(config, RootModel) else tree


def restored_config(provider: Provider, tree: Mapping[str, Tree]) -> BaseModel:
    """Return the configuration that `stored_config` made a mapping of."""
    return provider.Config.model_validate(tree.get(_ROOT) if issubclass(provider.Config, RootModel) else tree)


class Registry:
    """Providers by name, loaded when they are asked for."""

    def __init__(self, given: Mapping[str, Provider] | None = None) -> None:
        """Use the installed providers and, before them, those of `given`."""
        self._loaded: dict[str, Provider] = dict(given or {})
        self._entry_points = {point.name: point for point in entry_points(group=GROUP)}

    def names(self) -> tuple[str, ...]:
        """Return the names of all providers."""
        return tuple(sorted({*self._loaded, *self._entry_points}))

    def provider(self, name: str) -> Provider:
        """Return the provider `name`.

        Raises:
            LlmdeployError: it is not installed, or its package cannot be imported.
        """
        if name not in self._loaded:
            if name not in self._entry_points:
                hint = nearest(name, self.names()) or "pip install -e . from the checkout, or install the provider's package"
                raise LlmdeployError(f'no provider "{name}" is installed', hint=hint)
            try:
                self._loaded[name] = self._entry_points[name].load()
            except ImportError as error:
                package = self._entry_points[name].value
                raise LlmdeployError(
                    f'the provider "{name}" cannot be loaded from {package}: {error}', hint="reinstall it"
                ) from error
        return self._loaded[name]

    def builder(self, name: str) -> Provider:
        """Return the provider `name`, which must be able to apply.

        Raises:
            LlmdeployError: as `provider`.
            NotBuilt: this version only plans its stacks.
        """
        provider = self.provider(name)
        if isinstance(provider, PlansOnly):
            raise NotBuilt(provider.plans_only)
        return provider

    def configs(self) -> Mapping[str, type[BaseModel]]:
        """Return the Config model of every installed provider. A provider is loaded when its model is asked for."""
        return _Configs(self)

    def types(self, providers: Iterable[str]) -> dict[str, ResourceType[Any, Any]]:
        """Return the resource types of `providers` by name.

        Raises:
            LlmdeployError: two of them claim one name for different types.
        """
        found: dict[str, ResourceType[Any, Any]] = {}
        for provider in sorted(set(providers)):
            for name, kind in self.provider(provider).types.items():
                if found.setdefault(name, kind) is not kind:
                    raise LlmdeployError(f'two providers bring different types named "{name}"; one of them is {provider}')
        return found


class _Configs(Mapping[str, type[BaseModel]]):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._names = registry.names()

    def __getitem__(self, name: str) -> type[BaseModel]:
        if name not in self._names:
            raise KeyError(name)
        return self._registry.provider(name).Config

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
