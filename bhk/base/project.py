"""Where the project is published, and how it is installed. The one setting is Repository in pyproject.toml."""

from __future__ import annotations

import contextlib
from importlib.metadata import PackageNotFoundError, metadata


def repository() -> str | None:
    """Return the address of the project's repository, from the metadata of the installed package; None if it has none."""
    with contextlib.suppress(PackageNotFoundError):
        for entry in metadata("bhk").get_all("Project-URL") or []:
            label, _, address = entry.partition(", ")
            if label == "Repository":
                return str(address)
    return None


def installation(extra: str = "") -> str:
    """Return how to install bhk, as Markdown: a command, which works in a clone as long as the project has no address.

    Args:
        extra: an extra of the package, such as "transformers".
    """
    address, extras = repository(), f"[{extra}]" if extra else ""
    if address is None:
        return f"`pip install '.{extras}'` in a clone of bhk"
    return f"`pip install 'bhk{extras} @ git+{address}'`"
