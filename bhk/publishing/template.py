"""Card templates: Markdown with placeholders, as explained in the built-in one, card.md."""

from __future__ import annotations

import re
from collections import Counter
from importlib import resources

from bhk.base.errors import BhkError, listed, shown
from bhk.publishing.content import CardContent
from bhk.publishing.sections import SECTIONS

REQUIRED = ("summary", "loading", "provenance")
MEANINGS = {
    "summary": "what the repository holds",
    "files": "table of the files",
    "loading": "how to load them",
    "dense": "how to export them",
    "results": "results of evaluations",
    "layers": "table of the tensors by role",
    "provenance": "hashes",
    "limits": "intended use, limits, license",
}

_HEAD = re.compile(r"\A\s*<!--.*?-->", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{\{(.*?)\}\}")
_ALONE = re.compile(r"\s*\{\{[^{}]*\}\}\s*")


class TemplateError(BhkError):
    """A template has an unknown placeholder, or lacks a required one."""


def fill(content: CardContent, template: str | None = None) -> str:
    """Return the text of a card, without a line end at the end.

    Args:
        content: what the card says.
        template: Markdown with placeholders; None: the built-in template.

    Raises:
        TemplateError: a placeholder is unknown, missing, used twice, or not on a line of its own.
    """
    text = template if template is not None else resources.files(__package__).joinpath("card.md").read_text("utf-8")
    text = _HEAD.sub("", text.removeprefix("\ufeff").replace("\r\n", "\n")).strip()
    names = Counter(match[1].strip() for match in _PLACEHOLDER.finditer(text))
    if unknown := [name for name in names if name not in SECTIONS]:
        raise TemplateError(f"the template has the unknown placeholder {shown(unknown[0])!r}; {_known()}")
    if missing := [name for name in REQUIRED if name not in names]:
        raise TemplateError(f"the template lacks {listed(map(_braced, missing))}; {_known()}")
    if inline := [line for line in text.split("\n") if _PLACEHOLDER.search(line) and not _ALONE.fullmatch(line)]:
        raise TemplateError(
            f"the template has a placeholder within a line ({shown(inline[0])}); put it on a line of its own"
        )
    if twice := [name for name, count in names.items() if count > 1]:
        raise TemplateError(f"the template has the placeholder {twice[0]!r} twice; keep one")
    return _PLACEHOLDER.sub(lambda match: SECTIONS[match[1].strip()](content), text)


def _braced(name: str) -> str:
    return f"{{{{{name}}}}}"


def _known() -> str:
    known = listed(f"{_braced(name)} ({MEANINGS[name]})" for name in SECTIONS)
    return f"the placeholders, each on a line of its own, are {known}"
