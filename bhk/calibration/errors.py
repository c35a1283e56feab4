"""What can go wrong while a model is looked at before it is coded."""

from __future__ import annotations

from bhk.base.errors import BhkError


class CalibrationError(BhkError):
    """The model cannot be built, or cannot be shown what was asked for."""
