from __future__ import annotations

from tools.attack_tables import corruption, disturbances, faults, fuzzing
from tools.corruption.matrix import COLUMNS


def row(attack: str, reader: str, **counts: int) -> dict[str, str]:
    return {**dict.fromkeys(COLUMNS, "0"), "attack": attack, "reader": reader, **{k: str(v) for k, v in counts.items()}}


def test_what_no_reader_should_do_is_bold() -> None:
    rows = [
        row("cut off", "reference", refused=1200),
        row("cut off", "bhk", refused=1200),
        row("cut off", "gguf", refused=3, changed=1000, crashed=7),
        row("bombs", "bhk", refused=2, accepted=1),
    ]
    assert corruption(rows)[2:] == [
        "| cut off | 1,200 refused | – | **1,000 other values**, **7 crashed**, 3 refused |",
        "| bombs | 2 refused, 1 as written | – | – |",
    ]


def test_a_target_is_a_line() -> None:
    numbers = {
        "seconds": "60",
        "cpu_seconds": "50",
        "executions": "12345",
        "edges": "9",
        "inputs": "8",
        "findings": "0",
    }
    assert fuzzing([{"target": "container", **numbers}])[2:] == ["| container | 60 | 50 | 12,345 | 9 | 8 | 0 |"]


def test_commands_are_added_up() -> None:
    row = dict.fromkeys(("equal", "refused", "crashed", "hung", "silent"), "0")
    rows = [
        {**row, "group": "convert", "class": "short read", "operations": "1200", "cases": "7", "equal": "7"},
        {
            **row,
            "group": "export",
            "class": "short read",
            "operations": "30",
            "cases": "3",
            "refused": "2",
            "hung": "1",
        },
    ]
    assert faults(rows)[2:] == ["| short read | 2 | 10 | 1,230 | 7 | 2 | **1** |"]
    assert disturbances(rows[:1])[2:] == ["| short read | 1 | 7 | 7 | 0 | 0 |"]
