"""`python -m tools.faults.disturbed`: disturb commands from outside, and write how they end to a CSV file."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from tools.faults import ROOT
from tools.faults.cases import CASES, Case, Workshop
from tools.faults.disturbances import CHANGES, change_source, kill, limit_memory, limit_memory_from_the_start
from tools.faults.target import Tally, Target
from tools.faults.verdict import OUTCOMES
from tools.faults.work import table_of_runs
from tools.faults.writers import PAIRS, Writers
from tools.forked.shell import Shell

RESULTS = ROOT / "tools" / "bench" / "results" / "robustness_disturbances.csv"
COLUMNS = ("group", "class", "cases", *OUTCOMES)
_BY_NAME = {case.name: case for case in CASES}


def _big(name: str, source: str, *arguments: str, **more: object) -> Case:
    return Case(name, arguments, (source,), changing=source, **more)  # type: ignore[arg-type]


# Commands whose sources change, or that are killed: of files so large that they take a while.
CONVERT = _big("convert", "big.pth", "convert", "big.pth", "-o", "out.bhk")
EXPORT = _big("export .pth --force", "big.bhk", "export", "big.bhk", "-o", "out.pth", "--force", old=("out.pth",))
BIG = (
    CONVERT,
    _big("convert .safetensors", "big.safetensors", "convert", "big.safetensors", "-o", "out.bhk"),
    _big("convert --ratio", "big.pth", "convert", "big.pth", "-o", "out.bhk", "--ratio", "9"),
    _big("inspect", "big.bhk", "inspect", "big.bhk"),
    _big("verify", "big.bhk", "verify", "big.bhk"),
    replace(
        _big("verify --against", "big.pth", "verify", "big.bhk", "--against", "big.pth"), inputs=("big.pth", "big.bhk")
    ),
    replace(_big("diff", "big.pth", "diff", "big.pth", "big.bhk"), inputs=("big.pth", "big.bhk")),
    EXPORT,
    _big("export .safetensors", "big.bhk", "export", "big.bhk", "-o", "out.safetensors"),
    _big("report", "big.bhk", "report", "big.bhk", "-o", "out.html"),
    _big("push -o", "big.bhk", "push", "big.bhk", "user/new", "--license", "mit", "-o", "out"),
    replace(_BY_NAME["convert shards"], changing="shards/model-00002-of-00003.safetensors"),
    replace(_BY_NAME["segment -o"], changing="sam.bhk"),
    replace(_BY_NAME["export --format onnx"], changing="sam.bhk"),
    replace(_BY_NAME["eval to .csv"], changing="sam.pth"),
)
_MANY = replace(
    _BY_NAME["convert --out-dir"],
    arguments=("convert", "big.pth", "shards", "--out-dir", "many", "--quiet"),
    inputs=("big.pth", "shards"),
)
# How often each command is killed: 500 times together.
KILLS = (
    (CONVERT, 110),
    (EXPORT, 110),
    (_BY_NAME["export shards"], 60),
    (replace(_BY_NAME["pull"], published="big.bhk"), 70),
    (_MANY, 100),
    (_BY_NAME["eval"], 50),
)
MEMORY = (
    "convert", "convert --ratio", "convert --calibrate, temporary", "convert --out-dir", "inspect", "verify", "diff",
    "export .pth", "export .safetensors", "export --format onnx", "compare", "report", "push -o", "pull", "segment -o",
    "segment a clip", "eval to .csv", "models",
)  # fmt: skip
ANEW = ("convert", "inspect", "verify", "export .pth", "segment -o", "models")


def least_for_python() -> int:
    """Return the bytes of address space below which Python cannot start."""
    low, high = 1 << 20, 1 << 30
    code = "import resource, sys, os; n = int(sys.argv[1]); resource.setrlimit(resource.RLIMIT_AS, (n, n)); "
    code += "os.execv(sys.executable, [sys.executable, '-c', 'import bhk.cli.main'])"
    while high - low > 1 << 20:
        middle = (low + high) // 2
        ended = subprocess.run([sys.executable, "-c", code, str(middle)], cwd=ROOT, capture_output=True)
        low, high = (low, middle) if ended.returncode == 0 else (middle, high)
    return high


Runs = Iterator[tuple[str, str, Tally]]  # a command, what disturbs it, and how it ended


def kills(shop: Workshop, shells: tuple[Shell, Shell], share: float) -> Runs:
    """Kill commands at random moments."""
    for case, count in KILLS:
        yield (
            case.name,
            "killed at a random moment",
            kill(Target(shop, shells[0], case), _part(count, share), Random(1)),
        )


def changes(shop: Workshop, shells: tuple[Shell, Shell], share: float) -> Runs:
    """Change sources at random moments."""
    for case in BIG:
        target = Target(shop, shells[0], case)
        for name, change in CHANGES.items():
            yield case.name, name, change_source(target, change, _part(12, share), Random(2))


def writers(shop: Workshop, shells: tuple[Shell, Shell], share: float) -> Runs:
    """Let two commands write to one destination."""
    for pair in PAIRS:
        yield pair.name, "two writers to one place", Writers(shop, shells, pair).run(_part(20, share), Random(3))


def memory(shop: Workshop, shells: tuple[Shell, Shell], share: float) -> Runs:
    """Limit the address space while a command runs."""
    for name in MEMORY:
        yield (
            name,
            "address space limited",
            limit_memory(Target(shop, shells[0], _BY_NAME[name]), step=2 ** (0.5 / share)),
        )


def memory_anew(shop: Workshop, shells: tuple[Shell, Shell], share: float) -> Runs:
    """Limit the address space of Python from its start."""
    least = least_for_python()
    for name in ANEW:
        target = Target(shop, shells[0], _BY_NAME[name])
        tally = limit_memory_from_the_start(target, least, step=1.25 ** (1 / share))
        yield name, "address space limited from the start", tally


WAYS = {way.__name__: way for way in (kills, changes, writers, memory, memory_anew)}


def _part(count: int, share: float) -> int:
    return max(1, round(count * share))


def main() -> None:
    """Disturb commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=[*WAYS], help="What disturbs them.")
    parser.add_argument("--share", type=float, default=1.0, metavar="X", help="This share of all runs.")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="The CSV file to write.")
    given = parser.parse_args()
    with table_of_runs(given.out, COLUMNS) as (shop, server, write):
        shells = Shell(server, shop.place, shop.output), Shell(server, shop.place, shop.output / "second")
        for way in given.only:
            for name, disturbance, tally in WAYS[way](shop, shells, given.share):
                write({"group": name, "class": disturbance}, tally)


if __name__ == "__main__":
    main()
