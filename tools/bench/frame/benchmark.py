"""What a benchmark declares, and the loop that measures it.

    BENCHMARK = Benchmark(cases, measure, case="call", figures="us triton_us")

A module of `tools/bench` ends with such a line. `cases` lists what to measure, the most important first; `measure` returns the
rows of one case, each a dict from column to figure, or yields them as they come. The frame adds the columns of the machine,
writes the CSV file after every row, so that a time limit loses nothing, and goes on with the next case when one fails.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tools.bench.frame import results
from tools.bench.frame.plot import Figure
from tools.bench.frame.results import Row
from tools.bench.frame.timing import Budget

Rows = list[Row]


@dataclass(frozen=True)
class Option:
    """An option of a benchmark's command line; its type is that of the default.

    Attributes:
        quick: its default with --quick; None if that is the same.
    """

    default: Any
    help: str
    quick: Any = None


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a benchmark; `run["variant"]` is the value of the option --variant.

    Attributes:
        folder: for scratch files; removed after the run.
        out: where the CSV files and plots go.
        only: measure only the cases whose name contains this.
    """

    folder: Path
    out: Path = results.RESULTS
    device: str = "cpu"
    quick: bool = False
    only: str = ""
    budget: Budget = field(default_factory=Budget)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, option: str) -> Any:
        return self.options[option]


@dataclass(frozen=True)
class Benchmark:
    """What is measured, and how.

    Attributes:
        cases: yields the cases of a run; `str` of a case is its name.
        measure: returns the rows of a case; columns that a row lacks stay empty. A row that is yielded again, with more in it,
            replaces the first.
        case: the columns that tell rows apart. A row replaces an earlier one that agrees in all of them.
        figures: the other columns of the CSV file, before those of the machine.
        csv: name of the CSV file without suffix, in which {device} and the options are filled in.
        shown: columns of the table on the terminal; all by default.
        options: of the command line, beside those that all benchmarks have.
        devices: where it runs, the default first.
        expected: seconds that a case is likely to take; it does not start if fewer are left.
        processes: the option that says how many processes of one thread measure cases side by side, or "".
        figure: the plot of the CSV file.
        finish: called with all rows at the end, if they are in results/.
    """

    cases: Callable[[Run], Iterable[Any]]
    measure: Callable[[Any, Run], Iterable[Row]]
    case: str
    figures: str
    csv: str
    shown: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cpu",)
    expected: Callable[[Any, Run], float] = lambda case, run: 0.0
    processes: str = ""
    figure: Figure | None = None
    finish: Callable[[Rows], None] = lambda rows: None

    def path(self, run: Run) -> Path:
        """Return the CSV file that a run writes."""
        device = results.device_name(run.device) if "{device}" in self.csv else ""
        return run.out / f"{self.csv.format(device=device, **run.options)}.csv"

    def run(self, run: Run) -> bool:
        """Measure the cases as long as the budget lasts, and write the CSV file after each row; return whether none failed."""
        path, key, machine = self.path(run), self.case.split(), self._machine(run)
        columns = [*key, *self.figures.split(), *machine]
        kept = results.read_csv(path) if run.only and path.exists() else []
        rows = {tuple(row[name] for name in key): {name: row.get(name, "") for name in columns} for row in kept}
        passed = True
        for name, found in self._measured(run):
            if isinstance(found, str):
                passed = False
                print(f"{name}: failed: {found}", flush=True)
                continue
            for row in found:
                if unknown := row.keys() - set(columns):
                    raise ValueError(f"{self.csv} declares no column {', '.join(sorted(unknown))}")
                known = {name: str(value) for name, value in (row | machine).items() if value is not None}
                complete = dict.fromkeys(columns, "") | known
                rows[tuple(complete[name] for name in key)] = complete
            results.write_csv(path, list(rows.values()))
        if rows:
            results.show(rows.values(), self.shown.split() or [*key, *self.figures.split()])
            if run.out == results.RESULTS:
                self.finish(list(rows.values()))
            print(path)
        return passed

    def _machine(self, run: Run) -> Row:
        machine = results.machine(run.device if "{device}" in self.csv else None)
        return machine | {"threads": 1} if self.processes else machine

    def _measured(self, run: Run) -> Iterator[tuple[str, Rows | str]]:
        """Yield the name of a case and some of its rows, as they come, or, in a line, why there are no more."""
        cases = (case for case in self.cases(run) if run.only in str(case))
        if self.processes and run[self.processes] > 1:
            measure = functools.partial(_attempt, self.measure, run)
            context = multiprocessing.get_context("spawn")
            with context.Pool(run[self.processes], torch.set_num_threads, (1,)) as pool:
                for name, seconds, found in pool.imap(measure, cases):
                    print(f"{name}: {seconds:.1f} s", flush=True)
                    yield name, found
            return
        if self.processes:
            torch.set_num_threads(1)
        for case in cases:
            if not run.budget.allows(self.expected(case, run)):
                left, whole = max(run.budget.left, 0), run.budget.seconds
                print(f"{case}: left out, {left:.0f} s of {whole:.0f} s left", flush=True)
                continue
            budget = Budget()
            try:
                for row in self.measure(case, run):
                    yield str(case), [row]
            except Exception as error:  # whatever one case raises, the others are measured
                yield str(case), one_line(error)
            print(f"{case}: {budget.spent:.1f} s", flush=True)
            gc.collect()  # the frames of an exception hold its tensors in a cycle
            if run.device == "cuda":
                torch.cuda.empty_cache()


def _attempt(measure: Callable[[Any, Run], Iterable[Row]], run: Run, case: Any) -> tuple[str, float, Rows | str]:
    """Return the name of a case, the seconds that it took, and its rows or, in a line, why it has none."""
    budget = Budget()
    try:
        found: Rows | str = list(measure(case, run))
    except Exception as error:  # whatever one case raises, the others are measured
        found = one_line(error)
    return str(case), budget.spent, found


def one_line(error: BaseException) -> str:
    """Return the kind of an error and its first two lines in one; compilers give their reason in the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join([type(error).__name__, *([" ".join(lines[:2])] if lines else [])])[:200]
