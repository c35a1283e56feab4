"""The page of a report: one HTML file with everything in it, which asks no network for anything.

Data are one JSON value in a script element that no browser runs; the page's own scripts put its texts into the document as
text. A Content-Security-Policy names style and script by their hashes and forbids all else: nothing that the name of a tensor
or an entry of the metadata may hold is run or loaded.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from typing import Any

SCRIPTS = ("base", "map", "charts", "codebook", "layer", "rate", "table", "masks", "start")


def render(document: Any, title: str) -> str:
    """Return the page for a JSON value as `bhk.reports.document` makes it."""
    folder = resources.files(__package__) / "page"
    style = (folder / "style.css").read_text("utf-8")
    script = "\n".join((folder / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    parts = {
        "title": html.escape(title),
        "policy": _policy(style, script),
        "style": style,
        "data": script_json(document),
        "script": script,
    }
    template = (folder / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def script_json(value: Any) -> str:
    """Return `value` as JSON that may stand inside a script element: without <, > and &, all ASCII."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
