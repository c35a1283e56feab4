"""Faults of the machine, one at a time: what commands do when any of their operations fails, and when they are killed."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The small models and the fake Hub of the tests.
sys.path.append(str(ROOT / "tests"))
