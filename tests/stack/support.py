"""What the stack tests share: small provider models, and a loader with every argument given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llmdeploy.secret import SecretRef
from llmdeploy.stack.load import Loaded, load

HEAD = "version: 1\nname: demo\nmodel: {id: tiny-random}\nprovider: {local: {}}\n"
"""A good stack file of four lines; what a test adds starts in line 5."""


class Local(BaseModel):
    """A provider that asks nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(BaseModel):
    """A machine of the provider `rack`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    port: int | None = Field(default=22, ge=1, description="SSH port.")
    gpus: int | str = 0
    password: SecretRef | None = None


class Rack(BaseModel):
    """A third-party provider with a body of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machines: list[Machine] = Field(min_length=1, description="The machines.")
    label: str = Field(default="a", pattern="[a-z]+")


PROVIDERS: dict[str, type[BaseModel]] = {"local": Local, "rack": Rack}


def load_text(
    folder: Path,
    text: str | bytes,
    *,
    variables: Mapping[str, str] | None = None,
    var_files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    version: str = "0.1.0",
) -> Loaded:
    """Write `text` as a stack file in `folder` and load it."""
    (folder / "stack.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return load(
        folder,
        providers=PROVIDERS,
        variables=variables or {},
        var_files=var_files,
        environ=environ or {},
        version=version,
    )
