from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from bhk.cli.output import Output


@dataclass(frozen=True)
class _Found:
    path: Path
    values: tuple[float, ...]


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


def test_a_document_with_any_text_and_number_is_json(capsys: pytest.CaptureFixture[str]) -> None:
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
