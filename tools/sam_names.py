"""Writes `bhk/sam/names.json` from the names and shapes of published checkpoints in `tests/data/state_dicts`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bhk.sam.names import fingerprint, generalised
from bhk.sam.variants import VARIANTS
from tools.state_dicts import LISTS, name_of, shapes_in

TARGET = Path(__file__).parent.parent / "bhk" / "sam" / "names.json"


def text() -> str:
    """Return the content of the file."""
    variants = {name: shapes_in(path) for path in LISTS if (name := name_of(path)) in VARIANTS}
    families: dict[str, list[set[str]]] = {}
    for name, shapes in variants.items():
        families.setdefault(VARIANTS[name].family, []).append(set(map(generalised, shapes)))
    names = {family: _tree(found) for family, found in sorted(families.items())}
    marks = {name: fingerprint(shapes) for name, shapes in sorted(variants.items())}
    return json.dumps({"fingerprints": marks, "names": names}, indent=0, separators=(",", ":")) + "\n"


def _tree(lists: list[set[str]]) -> dict[str, Any]:
    """Return names as a tree of their parts: 1 at the end of a name that all lists have, else 0."""
    always = set.intersection(*lists)
    tree: dict[str, Any] = {}
    for name in sorted(set.union(*lists)):
        *parts, last = name.split(".")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = int(name in always)
    return tree


def main(arguments: Iterable[str] | None = None) -> int:
    """Write the file, or with --check only compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.check:
        if TARGET.read_text(encoding="utf-8") == text():
            return 0
        print(f"{TARGET} is out of date; run: python -m tools.sam_names", file=sys.stderr)
        return 1
    TARGET.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
