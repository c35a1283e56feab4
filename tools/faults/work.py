"""Where commands are disturbed: a workshop, a server that forks them, and the table of results."""

from __future__ import annotations

import contextlib
import csv
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tools.faults.cases import Workshop
from tools.faults.target import Tally
from tools.faults.verdict import OUTCOMES
from tools.forked.shell import fork_server

Write: TypeAlias = "Callable[[Mapping[str, object], Tally], None]"


@contextlib.contextmanager
def table_of_runs(path: Path, columns: Sequence[str]) -> Iterator[tuple[Workshop, subprocess.Popen[str], Write]]:
    """Yield a workshop, a `fork_server`, and what writes a line of a CSV file: labels, and the counts of a tally."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        path.open("w", newline="") as file,
        contextlib.closing(Workshop(Path(scratch) / "shop")) as shop,
        fork_server(Path(scratch)) as server,
    ):
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()

        def write(labels: Mapping[str, object], tally: Tally) -> None:
            counts = {outcome: tally.outcomes[outcome] for outcome in OUTCOMES}
            table.writerow({**labels, "cases": sum(counts.values()), **counts})
            file.flush()
            print(*labels.values(), dict(tally.outcomes), sep=" | ", flush=True)
            for wrong, where in tally.examples.items():
                print("   ", where, wrong, flush=True)

        yield shop, server, write
