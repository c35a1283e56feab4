"""`python -m tools.faults`: let every operation of every command fail, and write how they end to a CSV file."""

from __future__ import annotations

import argparse
import contextlib
import csv
import tempfile
from pathlib import Path

from tools.faults import ROOT
from tools.faults.cases import CASES, Workshop
from tools.faults.operations import ATTACKS, Tally, Target
from tools.faults.verdict import OUTCOMES
from tools.forked.shell import Shell, fork_server

RESULTS = ROOT / "tools" / "bench" / "results" / "robustness_faults.csv"
COLUMNS = ("group", "class", "cases", *OUTCOMES, "notes")
MOST = 60


def row(group: str, attack: str, tally: Tally) -> dict[str, object]:
    """Return a line of the table."""
    counts = {outcome: tally.outcomes[outcome] for outcome in OUTCOMES}
    return {"group": group, "class": attack, "cases": sum(counts.values()), **counts, "notes": ""}


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="Cases whose name contains this.")
    parser.add_argument("--attack", default="", metavar="TEXT", help="Attacks whose name contains this.")
    parser.add_argument("--most", type=int, default=MOST, metavar="N", help="Operations a case and attack, at most.")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="The CSV file to write.")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        given.out.open("w", newline="") as file,
        contextlib.closing(Workshop(Path(scratch) / "shop")) as shop,
        fork_server(Path(scratch)) as server,
    ):
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for case in (case for case in CASES if given.only in case.name):
            target = Target(shop, Shell(server, shop.place, shop.output), case)
            for attack in (attack for attack in ATTACKS if given.attack in attack.name):
                tally = target.attack(attack, given.most)
                if tally.outcomes:
                    table.writerow(row(case.name, attack.name, tally))
                    file.flush()
                    print(case.name, "|", attack.name, dict(tally.outcomes), flush=True)
                for wrong, where in tally.examples.items():
                    print("   ", where, wrong, flush=True)


if __name__ == "__main__":
    main()
