"""The base class of all bhk errors, how messages name options, and how they quote what was found."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterable

from bhk.base.texts import printable, redact

# Containers may hold each other so often that their whole text has more characters than fit into memory.
_CONTAINERS = (tuple, list, dict, set, frozenset)
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2

# Private-use characters around the option in a message, so that each interface can put its own form there.
_BEGIN, _END = "\ue000", "\ue001"
_OPTION = re.compile(f"{_BEGIN}([^{_END}]*){_END}")


class BhkError(Exception):
    """Base class of all bhk errors. The message says what was found, what was expected and what to do."""

    @property
    def marked(self) -> str:
        """The message as it was raised, with marks around options."""
        return Exception.__str__(self)

    def message(self, form: Callable[[str], str]) -> str:
        """Return the message, with options as `form` writes them, given such text as "force=True" or "images".

        It may quote names from files and addresses, so characters that would steer a terminal are escaped, and secrets masked.
        """
        return redact(printable(formed(self.marked, form), keep="\n"))

    def __str__(self) -> str:
        return self.message(lambda text: text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class OptionError(BhkError):
    """An option has a value that does not exist, is out of range, or contradicts another option."""


def formed(text: str, form: Callable[[str], str] = lambda option: option) -> str:
    """Return text with the options in it as `form` writes them; by default as Python does."""
    return _OPTION.sub(lambda found: form(found[1]), text)


def option(name: str, value: object = None) -> str:
    """Return an option, marked as such, for a message: Python shows `force=True`, the command line `--force`.

    Args:
        name: the parameter or the field, as Python calls it.
        value: the value to set; None to name the option only.
    """
    if value is None:
        return f"{_BEGIN}{name}{_END}"
    return f"{_BEGIN}{name}={json.dumps(value) if isinstance(value, str) else repr(value)}{_END}"


def shown(text: object, limit: int = 120) -> str:
    """Return text from a file in a form that is safe to print: one line of at most `limit` characters, no terminal codes."""
    plain = text if isinstance(text, str) else _SHORT.repr(text) if isinstance(text, _CONTAINERS) else str(text)
    if len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return plain if plain.isprintable() else ascii(plain)


def listed(items: Iterable[object], limit: int = 12) -> str:
    """Return `items` joined by commas; beyond `limit`, only their number."""
    every = list(items)
    text = ", ".join(shown(item) for item in every[:limit])
    return text if len(every) <= limit else f"{text} and {len(every) - limit} more"
