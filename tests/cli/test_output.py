from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from bhk.cli.output import Output, number, plain, printable, scientific, size


@dataclass(frozen=True)
class _Found:
    path: Path
    values: tuple[float, ...]


def test_a_table_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [("name", "left"), ("size", "right")]
    Output().table(columns, [("a", "1"), ("blocks\n", "20,000")], ["total", "3"])
    assert capsys.readouterr().out.splitlines() == [
        "name        size",
        "────────────────",
        "a              1",
        "blocks\\n  20,000",
        "────────────────",
        "total          3",
    ]


def test_a_table_without_rows_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table([("name", "left"), ("size", "right")], [])
    assert capsys.readouterr().out.splitlines() == ["name  size", "──────────"]


def test_lines_go_to_stdout_and_hints_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.line("a\x1b[31m")
    output.hint("b\r\n")
    output.document({"c": 1})
    assert capsys.readouterr() == ("a\\x1b[31m\n", "b\\r\\n\n")


@pytest.mark.parametrize(("as_json", "quiet", "out"), [(True, False, '{\n  "c": 1\n}\n'), (False, True, "")])
def test_one_document_or_nothing(capsys: pytest.CaptureFixture[str], as_json: bool, quiet: bool, out: str) -> None:
    output = Output(as_json=as_json, quiet=quiet)
    output.line("a")
    output.hint("b")
    output.table([("name", "left")], [("a",)])
    with output.progress("Working") as progress:
        assert progress is None
    output.document({"c": 1})
    assert capsys.readouterr() == (out, "")


def test_a_document_parses_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"nan": math.nan, "inf": math.inf, 3: "n\udcff ü\x1b", "found": _Found(Path("a/b"), (1.5, -math.inf))}
    Output(as_json=True).document(found)
    assert json.loads(capsys.readouterr().out) == {
        "nan": None,
        "inf": None,
        "3": "n\udcff ü\x1b",
        "found": {"path": "a/b", "values": [1.5, None]},
    }


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress("Working") as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")


def test_values_become_plain() -> None:
    assert plain((1, True, None, "x", [Path("a")])) == [1, True, None, "x", ["a"]]
    assert plain(_Found) is _Found  # the class itself is no record


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks.0 ü 模型", "blocks.0 ü 模型"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\tb\r\n\x00\x7f", "a\\tb\\r\\n\\x00\\x7f"),
        ("a\u202eb\u200b\udcff\U000e0041", "a\\u202eb\\u200b\\udcff\\U000e0041"),
        ("back\\slash 'quotes\"", "back\\slash 'quotes\""),
    ],
)
def test_what_steers_a_terminal_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_345, "12.3 kB"), (999_499, "999 kB"), (999_500, "1 MB"),
        (357_000_000, "357 MB"), (999_600_000, "1.00 GB"), (2_564_550_879, "2.56 GB"), (10**13, "10000.00 GB"),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(count: int, text: str) -> None:
    assert size(count) == text


def test_figures() -> None:
    assert [number(None), number(math.nan), number(math.inf), number(1.005, 1), number(2, 0)] == [
        "–",
        "–",
        "∞",
        "1.0",
        "2",
    ]
    assert [scientific(None), scientific(math.nan), scientific(0), scientific(0.01234)] == ["–", "–", "0", "1.23e-02"]
