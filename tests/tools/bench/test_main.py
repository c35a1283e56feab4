from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tools.bench import __main__ as program
from tools.bench import family
from tools.bench.frame.benchmark import Option, Rows, Run
from tools.bench.frame.results import read_csv


def test_every_benchmark_is_listed_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == program.names()
    assert all(30 < len(line) < 128 for line in lines)
    assert program.main(["nothing"]) == 2


@pytest.mark.parametrize("name", program.names())
def test_every_benchmark_can_be_asked_for_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(f"tools.bench.{name}", reason="needs a package", exc_type=ImportError)
    with pytest.raises(SystemExit) as ended:
        program.main([name, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    benchmark = importlib.import_module(f"tools.bench.{name}").BENCHMARK
    for option in ("quick", "out", "only", "seconds", *benchmark.options):
        assert f"--{option}" in said
    assert set(benchmark.shown.split()) <= {*benchmark.case.split(), *benchmark.figures.split()}


def test_options_reach_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = []

    def measure(case: str, run: Run) -> Rows:
        runs.append(run)
        return [{"variant": case, "ratio": "1.0"}]

    options = {"images": Option(8, "how many", quick=1), "name": Option("a", "of it")}
    benchmark = family.Benchmark(
        lambda run: ["x"], measure, case="variant", figures="ratio", csv="some", options=options
    )
    monkeypatch.setattr(family, "BENCHMARK", benchmark)
    monkeypatch.setattr(program, "QUICK_OUT", tmp_path / "quick")
    assert program.main(["family", "--out", str(tmp_path), "--name", "b", "--seconds", "5"]) == 0
    assert program.main(["family", "--quick"]) == 0
    assert [(run["images"], run["name"], run.budget.seconds) for run in runs] == [(8, "b", 5.0), (1, "a", float("inf"))]
    assert not runs[0].folder.exists()
    for folder in (tmp_path, tmp_path / "quick"):
        assert [row["variant"] for row in read_csv(folder / "some.csv")] == ["x"]
