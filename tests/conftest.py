"""Shared by every test; helpers to import live in `tests.support`."""

from __future__ import annotations

from .lab.bucket import bucket_name, store_server
from .support import require_root, require_tool

__all__ = ["bucket_name", "require_root", "require_tool", "store_server"]
