"""The stack file that `llmdeploy init` writes: short, commented, and valid as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from .scalars import resolve

_RULES = """\
compliance:
  profiles: [{profiles}]
  # What you state and no program can check; `llmdeploy plan` says what is missing, and how to write it.
  # attest: {{}}"""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def starter(*, name: str, model: str, provider: str, compliance: Sequence[str] = (), region: str | None = None) -> str:
    """Return the text of a stack file for these answers; texts that YAML would misread are quoted."""
    region_line = f"region: {_scalar(region)}" if region else "# region: eu-central-1"
    profiles = ", ".join(_scalar(profile) for profile in compliance)
    rules = _RULES.format(profiles=profiles) if profiles else "# compliance: [gdpr]"
    return f"""\
# A stack of llmdeploy: `llmdeploy plan` says what will exist, `llmdeploy apply` makes it so.
# Every key and its meaning: `llmdeploy schema`.
version: 1
name: {_scalar(name)}

model:
  # A name of the catalogue, a Hugging Face repository (owner/name), or a local path (./folder).
  id: {_scalar(model)}
  # What must fit: tokens per request (8K = 8*1024), and requests at the same time.
  # context: 8K
  # concurrency: 8

# Where it runs.
provider:
  {_scalar(provider)}: {{}}

# Where that is (residency is judged from it), and the rules that the plan must keep.
{region_line}
{rules}

# Who may call it: one key for each person, role or program.
keys:
  - name: first
    principal: me
"""


def _scalar(text: str) -> str:
    """Return `text` as a YAML scalar that is read back as this very text, whatever it holds."""
    if _PLAIN.fullmatch(text) and resolve(text) == (text, ""):
        return text
    return json.dumps(text.replace("${", "$${"))
