"""Draw the SVG files of docs/images/: the winding line and the rate-fidelity plot, each for a light and a dark page.

`python -m tools.drawings` writes them, `--check` exits with 1 when one differs from what would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.drawings.rate_plot import rate_plot
from tools.drawings.svg import THEMES
from tools.drawings.winding_line import winding_line

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
DRAWINGS = {"winding_line": winding_line, "rate_fidelity": rate_plot}


def main() -> int:
    stale = []
    for name, draw in DRAWINGS.items():
        for theme in THEMES:
            path, text = IMAGES / f"{name}_{theme.name}.svg", str(draw(theme))
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            if "--check" in sys.argv[1:]:
                stale.append(path.name)
            else:
                path.write_text(text, encoding="utf-8")
    if stale:
        print(f"docs/images: {', '.join(stale)} out of date: run make docs", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
