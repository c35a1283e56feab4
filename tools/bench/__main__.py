"""Run benchmarks: `python -m tools.bench NAME`; without a name, list them."""

from __future__ import annotations

import argparse
import ast
import importlib
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.bench.frame.benchmark import Benchmark, Option

FOLDER = Path(__file__).parent
QUICK_OUT = Path("bench_out")


def names() -> list[str]:
    """Return the names of all benchmarks: the modules of this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def about(name: str) -> str:
    """Return a benchmark's docstring without importing what it measures."""
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""


def listing() -> str:
    """Return all benchmarks, a line each."""
    lines = [f"{name:<22}{about(name).splitlines()[0]}" for name in names()]
    return "\n".join(["usage: python -m tools.bench NAME [--quick] [--help]", "", *lines])


def _chosen(given: object, option: Option, quick: bool) -> object:
    """Return the value of an option: the one given, or the default."""
    if given is not None:
        return given
    return option.quick if quick and option.quick is not None else option.default


def main(arguments: list[str]) -> int:
    name, *rest = arguments or [""]
    if name not in names():
        print(listing())
        return 0 if name in ("", "-h", "--help") else 2
    from tools.bench.frame.benchmark import Run
    from tools.bench.frame.results import RESULTS
    from tools.bench.frame.timing import Budget

    benchmark: Benchmark = importlib.import_module(f"tools.bench.{name}").BENCHMARK
    parser = argparse.ArgumentParser(
        prog=f"python -m tools.bench {name}",
        description=about(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help=f"measure few small cases, to try the benchmark; writes to {QUICK_OUT}/")
    add("--out", type=Path, help=f"folder for the CSV file (default: {RESULTS.relative_to(FOLDER.parents[1])})")
    add("--only", metavar="TEXT", default="", help="measure the cases whose name has TEXT in it, and keep other rows")
    add("--seconds", type=float, default=math.inf, help="start no case that would end later than this")
    add("--device", choices=benchmark.devices, default=benchmark.devices[0])
    add("--scratch", type=Path, help="where temporary files go (default: the system's place)")
    for option, found in benchmark.options.items():
        add(f"--{option}", type=type(found.default), help=f"{found.help} (default: {found.default})")
    given = parser.parse_args(rest)
    options = {
        option: _chosen(getattr(given, option), found, given.quick) for option, found in benchmark.options.items()
    }
    out = given.out or (QUICK_OUT if given.quick else RESULTS)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bhk-bench-", dir=given.scratch) as folder:
        run = Run(Path(folder), out, given.device, given.quick, given.only, Budget(given.seconds), options)
        passed = benchmark.run(run)
    if benchmark.figure is not None and benchmark.path(run).exists():
        print(benchmark.figure.draw(benchmark.path(run)))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
