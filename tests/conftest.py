"""Shared by every test; helpers to import live in `tests.support`."""

from __future__ import annotations

import signal

from .lab.bucket import bucket_name, store_server
from .support import require_root, require_tool

__all__ = ["bucket_name", "require_root", "require_tool", "store_server"]

# A run in the background of a script ignores Ctrl-C, one under nohup the end of its terminal; so would every program it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
