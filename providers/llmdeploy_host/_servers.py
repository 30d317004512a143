"""Who is asked for packages, images and model files. In words where the machine's own settings decide, else by host name."""

from __future__ import annotations

from typing import Final

PACKAGE_SERVERS: Final = "the machine's package servers"
"""Where apt is set up to find packages."""
PACKAGE_INDEX: Final = "the machine's package index"
"""Where pip is set up to find packages."""
HUB: Final = "the model's hub"
"""Where a model's files come from whose addresses no lock file names yet."""
TOOLKIT_SERVER: Final = "nvidia.github.io"
"""NVIDIA's package source of its container toolkit."""
_DEFAULT_REGISTRY: Final = "registry-1.docker.io"


def registry_of(image: str) -> str:
    """Return the host name of the registry that an image comes from; a name without one is Docker Hub's."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first.partition(":")[0]
    return _DEFAULT_REGISTRY
