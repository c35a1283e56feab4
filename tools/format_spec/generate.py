"""Fill in the generated regions of format_spec/README.md and write header.schema.json, or check them.

python -m tools.format_spec.generate [--check]
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tools.format_spec.schema import schema_text
from tools.format_spec.tables import REGIONS

FOLDER = Path(__file__).parents[2] / "format_spec"
_REGION = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return `text` with every region generated again."""
    names = [match[2] for match in _REGION.finditer(text)]
    assert sorted(names) == sorted(REGIONS), names
    return _REGION.sub(lambda match: f"{match[1]}{REGIONS[match[2]]()}\n{match[3]}", text)


def generated() -> dict[Path, str]:
    """Return the text of each file."""
    readme = FOLDER / "README.md"
    return {readme: filled(readme.read_text(encoding="utf-8")), FOLDER / "header.schema.json": schema_text()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args().check
    for path, text in generated().items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if check:
            raise SystemExit(f"format_spec/{path.name} is stale; run python -m tools.format_spec.generate")
        path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
