"""Tables of what readers do with damaged and hostile files, and commands on a faulty system, for `tools.result_tables`."""

from __future__ import annotations

from collections.abc import Iterator

from tools.corruption.outcomes import Outcome
from tools.speed_tables import Rows, line

_WORDS = {
    Outcome.REFUSED: "refused",
    Outcome.EQUAL: "equal values",
    Outcome.ACCEPTED: "as written",
    Outcome.CHANGED: "other values",
    Outcome.DIFFERS: "another verdict",
    Outcome.OTHER_ERROR: "another error",
    Outcome.MEMORY: "too much memory",
    Outcome.HUNG: "hung",
    Outcome.CRASHED: "crashed",
}
_READERS = ("bhk", "safetensors", "gguf")


def corruption(rows: Rows) -> list[str]:
    """Return the table of attacks, one line an attack: cases and outcomes of each reader; failures are bold."""
    found = {(row["attack"], row["reader"]): row for row in rows}
    lines = [f"| attack | {' | '.join(_READERS)} |", "|---|---|---|---|"]
    for attack in dict.fromkeys(row["attack"] for row in rows):
        cells = [_outcomes(found.get((attack, reader))) for reader in _READERS]
        lines.append(line([attack, *cells], bold=False))
    return lines


def _outcomes(row: dict[str, str] | None) -> str:
    if row is None:
        return "–"
    counts = {outcome: int(row[outcome.name.lower()]) for outcome in Outcome}
    parts = []
    for outcome, count in sorted(counts.items(), key=lambda entry: -entry[1]):
        if count:
            text = f"{count:,} {_WORDS[outcome]}"
            parts.append(f"**{text}**" if outcome.failed else text)
    return ", ".join(parts)


def fuzzing(rows: Rows) -> list[str]:
    """Return the table of fuzzing, one line a target."""
    lines = ["| target | seconds | of a processor | inputs read | jumps seen | inputs kept | findings |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    for row in rows:
        numbers = [row[name] for name in ("seconds", "cpu_seconds", "executions", "edges", "inputs", "findings")]
        lines.append(line([row["target"], *(f"{int(number):,}" for number in numbers)], bold=False))
    return lines


def faults(rows: Rows) -> list[str]:
    """Return the table of faults of the system, one line a fault: what all commands together left; failures are bold."""
    lines = ["| fault | commands | operations | of | done | refused | anything else |", "|---|--:|--:|--:|--:|--:|--:|"]
    for fault, found in _by_class(rows):
        cases, *rest = _outcomes_together(found)
        operations = sum(int(row["operations"]) for row in found)
        lines.append(line([fault, str(len(found)), f"{cases:,}", f"{operations:,}", *map(str, rest)], bold=False))
    return lines


def disturbances(rows: Rows) -> list[str]:
    """Return the table of what disturbs commands from outside, one line for each; failures are bold."""
    lines = ["| disturbance | commands | runs | done | refused | anything else |", "|---|--:|--:|--:|--:|--:|"]
    for disturbance, found in _by_class(rows):
        lines.append(line([disturbance, str(len(found)), *map(str, _outcomes_together(found))], bold=False))
    return lines


def _by_class(rows: Rows) -> Iterator[tuple[str, list[dict[str, str]]]]:
    for name in dict.fromkeys(row["class"] for row in rows):
        yield name, [row for row in rows if row["class"] == name]


def _outcomes_together(rows: list[dict[str, str]]) -> tuple[int, int, int, str]:
    """Return how many runs there were, how many were done, were refused, and did anything else, which is bold."""
    cases, equal, refused = (sum(int(row[name]) for row in rows) for name in ("cases", "equal", "refused"))
    wrong = cases - equal - refused
    return cases, equal, refused, f"**{wrong}**" if wrong else "0"


def large(rows: Rows) -> list[str]:
    """Return the table of many layers and large files."""
    names = ("cases", "wrong", "gigabytes", "cpu_seconds", "peak_mib")
    lines = [
        "| measure | tensors | wrong | GB | seconds of a processor | MiB more at the peak |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    return lines + [line([row["measure"], *(row[name] or "–" for name in names)], bold=False) for row in rows]


def load(rows: Rows) -> list[str]:
    """Return the table of many loads at once and after each other."""
    names = ("cases", "wrong", "seconds", "peak_mib", "memory_growth_mib", "files_growth")
    lines = ["| measure | cases | wrong | seconds | MiB more at the peak | MiB more at the end | files more |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|")
    return lines + [line([row["measure"], *(row[name] or "–" for name in names)], bold=False) for row in rows]
