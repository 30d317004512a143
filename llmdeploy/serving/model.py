"""What an inference engine must tell the rest of llmdeploy: nothing outside `serving` knows a flag of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ..diagnostics import Diagnostic
from ..errors import StackError
from ..manifest import ModelConfig
from ..process import ProcessSpec
from ..resource import as_mapping

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class RenderRequest:
    """One serving process.

    served_name: what clients pass as `model`. context: tokens of one request, prompt and answer. concurrency: requests in flight.
    kv_cache_bytes, weight_bytes: memory for the KV cache and for the weights. quant: as in the stack file. extra_args: the
    engine's own options from the stack file, by name without dashes.
    """

    served_name: str
    context: int
    concurrency: int
    kv_cache_bytes: int
    weight_bytes: int
    device: Device = "cpu"
    quant: str = "auto"
    seed: int = 0
    extra_args: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Engine(Protocol):
    """One inference engine, at the versions that llmdeploy knows."""

    @property
    def name(self) -> str:
        """Name in the stack file."""
        ...

    @property
    def default_version(self) -> str:
        """The version used when the stack file names none."""
        ...

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that can be rendered."""
        ...

    @property
    def refused_args(self) -> Mapping[str, str]:
        """Options that a stack file may not set -> why. Options in neither this nor the engine's list are unknown."""
        ...

    def requirements(self, version: str, device: Device) -> str:
        """Return the pinned packages of a private environment, in pip's format. Raises StackError or NotBuilt."""
        ...

    def check_args(self, args: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
        """Return what is wrong with the stack file's `engine.args`."""
        ...

    def check_model(self, config: ModelConfig, quant: str, device: Device) -> tuple[Diagnostic, ...]:
        """Return why the device cannot run this checkpoint in the wanted quantization."""
        ...

    def kv_bytes_per_token(self, config: ModelConfig, dtype_bytes: int) -> int:
        """Return the bytes of KV cache that one token takes in all layers. Raises StackError naming what config.json lacks."""
        ...

    def kv_dtype_bytes(self, config: ModelConfig, quant: str) -> int:
        """Return the bytes of one number in the KV cache."""
        ...

    def kv_block_tokens(self, config: ModelConfig, device: Device) -> int:
        """Return the tokens of one block; the cache of a request is a whole number of blocks."""
        ...

    def kv_spare_blocks(self) -> int:
        """Return the blocks that the engine keeps for itself."""
        ...

    def overhead_bytes(self, device: Device) -> int:
        """Return the memory of the process beside weights and KV cache."""
        ...

    def runtime_disk_bytes(self, device: Device) -> int:
        """Return the disk that the installed engine takes."""
        ...

    def render(self, request: RenderRequest) -> ProcessSpec:
        """Return the process. Raises StackError when the options are wrong, NotBuilt for a device that is not supported yet."""
        ...


def stack_error(path: str, summary: str, *, hint: str = "") -> StackError:
    """Return an error about the part `path` of the stack file; the loader adds file and line."""
    finding = Diagnostic("error", summary, None, path, hint)
    return StackError(str(finding), diagnostics=(finding,))


def first(config: ModelConfig, *names: str) -> int | None:
    """Return the first of `names` that config.json has as a number; architectures differ in how they call the same thing."""
    places = (as_mapping(config.get("text_config")) or {}, config)
    found = (place[name] for place in places for name in names if isinstance(place.get(name), int))
    return next(found, None)
