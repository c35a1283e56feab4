"""Add tiles that were measured on a GPU to the table that ships: `python -m tools.keep_tiles FILE`.

FILE is the tiles.csv of bhk's cache. Its lines replace those for the same GPU and problem in kernels/tiles.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path

from bhk.kernels.tuning import SHIPPED, Measured, read, write


def merged(shipped: Iterable[Measured], fresh: Iterable[Measured]) -> list[Measured]:
    """Return the last line for each GPU and problem, in order."""
    found = {(row.gpu, astuple(row.problem)): row for row in [*shipped, *fresh]}
    return [row for _, row in sorted(found.items(), key=lambda item: item[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    fresh = list(read(parser.parse_args().file))
    rows = merged(read(SHIPPED), fresh)
    write(rows, SHIPPED)
    print(f"{SHIPPED}: {len(rows)} lines, {len(fresh)} of them from the file")


if __name__ == "__main__":
    main()
