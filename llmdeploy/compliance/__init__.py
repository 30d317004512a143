"""Profiles: what they force before anything is planned (`resolve`), whether the graph keeps to it (`check`), and whether what
exists does (`live`).

A control judges traits, never type names. The word that people expect at the end is never printed: a pass is evidence about one
setting, nothing more.
"""

from __future__ import annotations

from .check import check, licence_findings
from .controls import CONTROLS
from .document import document
from .model import Breach, Control, Rule, Subject
from .profiles import PROFILES
from .resolve import resolve

__all__ = ["CONTROLS", "PROFILES", "Breach", "Control", "Rule", "Subject", "check", "document", "licence_findings", "resolve"]
