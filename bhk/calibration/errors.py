"""What can go wrong while a model is calibrated."""

from __future__ import annotations

from bhk.base.errors import BhkError


class CalibrationError(BhkError):
    """The model cannot be built, or cannot run on these samples."""
