"""The HTML file of a report page. It contains everything it needs and loads nothing from the network.

The data is one JSON value in a script element that browsers do not run; the page's own scripts insert it as plain text. A
Content-Security-Policy allows its style and script by their hashes and forbids everything else, so nothing in the name of a
tensor or in the metadata can run or be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from bhk.base.texts import printable

_DRAWING = ("base", "map", "charts", "codebook", "layer", "rate", "table", "masks", "start")


def render(data: Any, title: str) -> str:
    """Return the HTML of the page for the data of `bhk.reports.page_data`."""
    style, script = part("style.css"), drawing() + part("report.js")
    parts = {
        "title": html.escape(printable(title)),
        "policy": policy(style, script, "img-src data:"),
        "style": style,
        "main": part("main.html"),
        "data": script_json(_printable(data)),
        "script": script,
    }
    return fill_in(part("page.html"), parts)


def part(name: str) -> str:
    """Return a file of the page."""
    return (resources.files(__package__) / "page" / name).read_text("utf-8")


def drawing() -> str:
    """Return the script that handles the theme and declares `draw(data, sketchOf)`, which draws a file into `main.html`."""
    body = "\n".join(part(f"{name}.js") for name in _DRAWING)
    return f"{part('theme.js')}\nfunction draw(data, sketchOf) {{\n{body}}}\n\n"


def fill_in(template: str, parts: Mapping[str, str]) -> str:
    """Return a template with each {{name}} replaced once by the part of that name."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _printable(value: Any) -> Any:
    """Return `value` with characters escaped that would turn the order of letters around, or show nothing."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (list, tuple)):
        return list(map(_printable, value))
    return {key: _printable(item) for key, item in value.items()} if isinstance(value, dict) else value


def script_json(value: Any) -> str:
    """Return `value` as JSON that is safe inside a script element: ASCII without <, > and &."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy(style: str, script: str, *more: str) -> str:
    """Return a Content-Security-Policy that allows one style, one script, and what `more` directives say."""
    allowed = (f"style-src '{_hash(style)}'", f"script-src '{_hash(script)}'", *more)
    return "; ".join(("default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
