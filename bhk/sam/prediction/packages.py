"""Other people's packages, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from bhk.sam.build import MissingPackageError

_DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python"}  # whose name differs from that of what is imported


def imported(name: str) -> Any:
    """Import a module of another package.

    Raises:
        MissingPackageError: it, or another one it needs, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        command = f"pip install {_DISTRIBUTIONS.get(missing, missing)}"
        raise MissingPackageError(f"{name} does not import ({error}); {command}") from error
