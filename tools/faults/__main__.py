"""`python -m tools.faults`: let every operation of every command fail, and write how they end to a CSV file."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.faults import ROOT
from tools.faults.cases import CASES
from tools.faults.operations import ATTACKS, attack
from tools.faults.target import Target
from tools.faults.verdict import OUTCOMES
from tools.faults.work import table_of_runs
from tools.forked.shell import Shell

RESULTS = ROOT / "tools" / "bench" / "results" / "robustness_faults.csv"
COLUMNS = ("group", "class", "operations", "cases", *OUTCOMES)
SECONDS = 120.0
LEAST = 1  # operations of a slow command that fail under each attack


def main() -> None:
    """Run the attacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="Commands whose name begins like this.")
    parser.add_argument(
        "--attack", nargs="+", default=[""], metavar="TEXT", help="Attacks whose name begins like this."
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N", help="For each command, about.")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="The CSV file to write.")
    given = parser.parse_args()
    attacks = [one for one in ATTACKS if one.name.startswith(tuple(given.attack))]
    with table_of_runs(given.out, COLUMNS) as (shop, server, write):
        shell = Shell(server, shop.place, shop.output)
        for case in (case for case in CASES if case.name.startswith(tuple(given.only))):
            target = Target(shop, shell, case)
            most = max(LEAST, round(given.seconds / target.seconds / len(attacks)))
            for one in attacks:
                if count := target.operations(one.kinds):
                    write({"group": case.name, "class": one.name, "operations": count}, attack(target, one, most))


if __name__ == "__main__":
    main()
