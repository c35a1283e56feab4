from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench.frame.benchmark import Benchmark, Rows, Run, one_line
from tools.bench.frame.results import RESULTS, Row, read_csv, write_csv
from tools.bench.frame.timing import Budget


def measure(case: str, run: Run) -> Rows:
    if case == "bad":
        raise RuntimeError("\nno kernel\nfor this GPU\nat all")
    return [{"what": case, "length": len(case), "note": None}]


BENCHMARK = Benchmark(lambda run: ["ab", "bad", "abcd"], measure, case="what", figures="length note", csv="words")


def test_a_case_that_fails_leaves_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not BENCHMARK.run(Run(tmp_path, tmp_path))
    rows = read_csv(tmp_path / "words.csv")
    assert [(row["what"], row["length"], row["note"]) for row in rows] == [("ab", "2", ""), ("abcd", "4", "")]
    assert list(rows[0])[:3] == ["what", "length", "note"]
    assert {"cpu", "threads", "torch", "commit", "date"} <= set(rows[0])
    assert "bad: failed: RuntimeError: no kernel for this GPU\n" in capsys.readouterr().out


def test_rows_of_other_cases_stay_if_only_some_are_measured(tmp_path: Path) -> None:
    BENCHMARK.run(Run(tmp_path, tmp_path))
    again = dataclasses.replace(BENCHMARK, measure=lambda case, run: [{"what": case, "length": "new"}])
    assert again.run(Run(tmp_path, tmp_path, only="bc"))
    assert [(row["what"], row["length"]) for row in read_csv(tmp_path / "words.csv")] == [("ab", "2"), ("abcd", "new")]
    write_csv(tmp_path / "words.csv", [{"what": "old", "length": "3"}])  # from before there were other columns
    assert again.run(Run(tmp_path, tmp_path, only="bc"))
    old, new = read_csv(tmp_path / "words.csv")
    assert (old["what"], old["torch"], new["what"]) == ("old", "", "abcd")
    assert new["torch"]
    assert again.run(Run(tmp_path, tmp_path))
    assert [row["length"] for row in read_csv(tmp_path / "words.csv")] == ["new"] * 3


def test_rows_are_written_as_they_come_and_may_be_completed(tmp_path: Path) -> None:
    seen: list[list[dict[str, str]]] = []

    def growing(case: str, run: Run) -> Iterator[Row]:
        for length in (None, 2):
            yield {"what": case, "length": length}
            seen.append(read_csv(tmp_path / "words.csv"))
        raise RuntimeError("no time is left")

    assert not dataclasses.replace(BENCHMARK, cases=lambda run: ["ab"], measure=growing).run(Run(tmp_path, tmp_path))
    assert [[(row["what"], row["length"]) for row in rows] for rows in seen] == [[("ab", "")], [("ab", "2")]]
    assert [row["length"] for row in read_csv(tmp_path / "words.csv")] == ["2"]


def test_what_the_budget_leaves_out_is_said_and_what_was_measured_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0

    def slow(case: str, run: Run) -> Rows:
        nonlocal now
        now += 50
        return measure(case, run)

    benchmark = dataclasses.replace(
        BENCHMARK, cases=lambda run: ["ab", "abcd"], measure=slow, expected=lambda case, run: 20.0
    )
    assert benchmark.run(Run(tmp_path, tmp_path, budget=Budget(60, clock=lambda: now)))
    assert [row["what"] for row in read_csv(tmp_path / "words.csv")] == ["ab"]
    assert "abcd: left out, 10 s of 60 s left" in capsys.readouterr().out


def test_cases_are_measured_side_by_side_in_processes(tmp_path: Path) -> None:
    benchmark = dataclasses.replace(BENCHMARK, csv="words_{workers}", processes="workers")
    assert not benchmark.run(Run(tmp_path, tmp_path, options={"workers": 2}))
    rows = read_csv(tmp_path / "words_2.csv")
    assert [(row["what"], row["threads"]) for row in rows] == [("ab", "1"), ("abcd", "1")]


def test_a_column_that_is_not_declared_is_an_error(tmp_path: Path) -> None:
    other = dataclasses.replace(BENCHMARK, figures="length")
    with pytest.raises(ValueError, match="words declares no column note"):
        other.run(Run(tmp_path, tmp_path))


def test_only_results_are_finished(tmp_path: Path) -> None:
    finished: list[Rows] = []
    benchmark = dataclasses.replace(BENCHMARK, cases=lambda run: ["ab"], finish=finished.append)
    benchmark.run(Run(tmp_path, tmp_path))
    assert not finished
    assert Run(tmp_path).out == RESULTS


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\n\n two \nthree"), "ValueError: one two"), (NotImplementedError(), "NotImplementedError")],
)
def test_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line
