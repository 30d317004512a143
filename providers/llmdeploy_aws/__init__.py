"""AWS, as plans: one public module per resource type, and the provider `aws`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, cast

from pydantic import BaseModel

from llmdeploy.sdk import Fragment, Gpu, LayoutRequest, Provider, Quotes, ReadRequest, ReadResult, ResourceType, Run, read_each

from ._config import AwsConfig


class Aws:
    """The provider `aws`: machines in a private network, behind a network load balancer, everything encrypted with one key."""

    name = "aws"
    Config: type[BaseModel] = AwsConfig

    @property
    def types(self) -> Mapping[str, ResourceType[Any, Any]]:
        """The `RESOURCE` of every public module of this package, by type name."""
        return _types()

    @property
    def plans_only(self) -> str:
        """What this version does not do yet."""
        return "this version plans stacks in AWS and cannot apply them yet"

    def layout(self, request: LayoutRequest) -> Fragment:
        """Lay the stack out in one region.

        Raises:
            StackError: the stack file asks for what cannot be, each part with its path.
        """
        from ._layout import lay_out

        return lay_out(request, cast("AwsConfig", request.config))

    def refresh(self, run: Run, requests: Sequence[ReadRequest]) -> Iterable[ReadResult]:
        """Look at each object. There is none before the first apply."""
        return read_each(self.types, run, requests)

    def quotes(self, environ: Mapping[str, str], regions: Sequence[str], gpus: Mapping[str, Gpu]) -> Iterable[Quotes]:
        """Ask AWS what it offers in each region, and what it costs, with the credentials that every tool of AWS would take.

        Raises:
            ProviderError: a region cannot be asked: no credentials, no permission, no answer.
        """
        from . import _catalog

        del environ
        return _catalog.quotes(_catalog.session(), regions, gpus)


@cache
def _types() -> Mapping[str, ResourceType[Any, Any]]:
    modules = (import_module(f"{__name__}.{m.name}") for m in iter_modules(__path__) if not m.name.startswith("_"))
    resources: list[ResourceType[Any, Any]] = [module.RESOURCE for module in modules]
    return {resource.name: resource for resource in resources}


aws: Provider = Aws()
