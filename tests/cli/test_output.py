from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import rich.progress
import typer

from bhk.base.report import Report
from bhk.cli.messages import print_error
from bhk.cli.output import Output


@dataclass(frozen=True)
class _Found(Report):
    path: Path
    values: tuple[float, ...] = ()

    @property
    def hints(self) -> tuple[str, ...]:
        return tuple(f"skipped {value}" for value in self.values if value < 0)

    def lines(self) -> Iterator[str]:
        yield str(self.path)


def test_reports_go_to_stdout_and_hints_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.report(_Found(Path("a\x1b[31m")))
    output.hint("b\r\n")
    assert capsys.readouterr() == ("a\\x1b[31m\n", "b\\r\\n\n")


@pytest.mark.parametrize(
    ("as_json", "quiet", "out"), [(True, False, '{\n  "path": "a",\n  "values": []\n}\n'), (False, True, "")]
)
def test_one_document_or_nothing(capsys: pytest.CaptureFixture[str], as_json: bool, quiet: bool, out: str) -> None:
    output = Output(as_json=as_json, quiet=quiet)
    output.report(_Found(Path("a")))
    output.hint("b")
    with output.progress() as progress:
        assert progress is None
    assert capsys.readouterr() == (out, "")


def test_the_hints_of_a_report_follow_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stdout)  # one stream, to see the order
    Output().report(_Found(Path("a"), (-1.0, 2.0, -3.0)))
    assert capsys.readouterr().out == "a\nskipped -1.0\nskipped -3.0\n"
    Output(quiet=True).report(_Found(Path("a"), (-1.0,)))
    assert capsys.readouterr().out == ""


def test_a_report_is_saved_after_it_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output, found, path = Output(), _Found(Path("a")), tmp_path / "a.json"
    output.save(found, None, force=False)
    output.save(found, path, force=False)
    assert json.loads(path.read_text("utf-8")) == {"path": "a", "values": []}
    assert capsys.readouterr() == ("", f"wrote {path}\n")
    with pytest.raises(typer.Exit) as end:
        output.save(found, path, force=False)
    assert end.value.exit_code == 1
    assert capsys.readouterr() == ("", f"error: {path} exists; use --force to overwrite it\n")


def test_a_condition_that_is_not_met_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    Output(quiet=True).require(True, "nothing")
    with pytest.raises(typer.Exit) as end:
        Output(quiet=True).require(False, "2 of 3 tensors differ")
    assert end.value.exit_code == 1
    assert capsys.readouterr() == ("", "error: 2 of 3 tensors differ\n")


def test_an_error_is_a_line_and_with_json_an_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bhk", "inspect", "a"])
    print_error("ReadError", "cannot read\n a\x1b")
    assert capsys.readouterr() == ("", "error: cannot read a\\x1b\n")
    monkeypatch.setattr(sys, "argv", ["bhk", "inspect", "a", "--json"])
    print_error("ReadError", "cannot read ü")
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": {"type": "ReadError", "message": "cannot read ü"}}
    assert err == "error: cannot read ü\n"


@pytest.mark.parametrize("name", ["n\udcff ü\x1b", "a/b"])
def test_a_document_with_any_text_and_number_is_json(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Output(as_json=True).report(_Found(Path(name), (1.5, -math.inf, math.nan)))
    assert json.loads(capsys.readouterr().out) == {"path": name, "values": [1.5, None, None]}


def test_no_progress_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().progress() as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")


def test_the_stage_that_is_shown_is_the_true_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bars: list[rich.progress.Progress] = []
    monkeypatch.setattr(rich.progress.Progress, "start", lambda self: bars.append(self))

    def shown() -> tuple[str, float, float | None, str]:
        (task,) = bars[0].tasks
        return task.description, task.completed, task.total, task.fields["amount"]

    with Output().progress() as progress:
        assert progress is not None
        assert shown() == ("Working", 0, None, "")
        progress("Encoding", 3_400_000, 94_000_000)
        assert shown() == ("Encoding", 3_400_000, 94_000_000, "3/94 MB")
        progress("Encoding", 9_400_000, 94_000_000)
        assert shown() == ("Encoding", 9_400_000, 94_000_000, "9/94 MB")
        progress("Evaluating", 4_999, 118_000)
        assert shown() == ("Evaluating", 4_999, 118_000, "4,999/118,000")
        progress("Evaluating", 118_000, 118_000)
        assert shown() == ("Working", 0, None, "")  # nothing is known of what follows
