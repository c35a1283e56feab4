"""Write docs/viewer/index.html, or check that it is up to date.

    python -m tools.viewer [--check]

One HTML file holds everything: the reader of format_spec/js/, the drawing of `bhk report`, and the parts in this folder.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from bhk.reports.page import drawing, fill_in, part, policy

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "viewer" / "index.html"
# Any address that the user may give: on the web, or of a server on the same machine.
CONNECTIONS = "connect-src https: http://localhost:* http://127.0.0.1:*"

_IMPORT = re.compile(r'^import \{ (.*) \} from "(.*)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)
_AGAIN = re.compile(r"^export \{ (.*) \};$", re.MULTILINE)


def page() -> str:
    """Return the text of the page."""
    style = part("style.css") + _read(FOLDER / "style.css")
    script = drawing() + bundled(FOLDER / "viewer.mjs")
    parts = {"policy": policy(style, script, CONNECTIONS), "style": style, "main": part("main.html"), "script": script}
    return fill_in(_read(FOLDER / "page.html"), parts)


def bundled(path: Path) -> str:
    """Return a module and those that it imports as one script: each becomes a function that returns what it exports."""
    return "\n".join(f"const {_name(module)} = {_closed(module)}" for module in _in_order(path, set()))


def _in_order(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield a module behind those that it imports."""
    seen.add(path)
    for _, name in _IMPORT.findall(_read(path)):
        if (other := (path.parent / name).resolve()) not in seen:
            yield from _in_order(other, seen)
    yield path


def _closed(path: Path) -> str:
    text = _read(path)
    exports = [*_EXPORT.findall(text), *(name for names in _AGAIN.findall(text) for name in names.split(", "))]
    text = _IMPORT.sub(lambda match: f"const {{ {match[1]} }} = {_name(path.parent / match[2])};", text)
    text = re.sub(r"^export (?=\w)", "", _AGAIN.sub("", text), flags=re.MULTILINE)
    return f"(() => {{\n{text}\nreturn {{ {', '.join(exports)} }};\n}})();\n"


def _name(path: Path) -> str:
    return f"{path.stem}Module"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    check = parser.parse_args().check
    text = page()
    if PAGE.exists() and _read(PAGE) == text:
        return
    if check:
        raise SystemExit("docs/viewer/index.html is stale; run python -m tools.viewer")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
