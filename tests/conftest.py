"""Shared by every test; helpers to import live in `tests.support`."""

from __future__ import annotations

from .support import require_root, require_tool

__all__ = ["require_root", "require_tool"]
