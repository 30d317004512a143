"""Who a stack is: its name and its lineage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """Name of the stack and lineage of its state; the lineage is None until the first apply makes it."""

    name: str
    lineage: str | None

    @property
    def slug(self) -> str | None:
        """`name-lineage8`: the name under which everything of this stack lies on a host; None before the first apply."""
        return f"{self.name}-{self.lineage[:8]}" if self.lineage else None
