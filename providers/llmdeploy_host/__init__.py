"""Machines reached locally or over SSH: one public module per resource type, and the providers `local` and `hosts`."""

from __future__ import annotations

from llmdeploy.sdk import Provider

from ._hosts import Hosts
from ._local import Local

local: Provider = Local()
hosts: Provider = Hosts()
