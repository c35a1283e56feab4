from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from tools import gpu_checks
from tools.bench import __main__ as benchmarks
from tools.bench.frame.timing import Budget
from tools.gpu_checks import Step, check, run


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Steps that need no GPU, and a folder for results."""
    pytest.importorskip("triton")
    write = f"open(r'{tmp_path}/results/some.csv', 'w').write('a\\n')"
    steps = {
        "fine": Step(("-c", "print('well')"), 30),
        "bad": Step(("-c", "1 / 0"), 30),
        "csv": Step(("-c", write), 30),
    }
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(gpu_checks, "STEPS", steps)
    monkeypatch.setattr(gpu_checks, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "no GPU")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_step_is_done_or_failed_or_out_of_time_or_left_out(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        assert run("a", Step(("-c", "print('well')"), 30), 30, log)
        assert not run("b", Step(("-c", "raise SystemExit(3)"), 30), 30, log)
        assert not run("c", Step(("-c", "import time; time.sleep(60)"), 30), 0.5, log)
        assert run("d", Step(("-c", "1 / 0"), 30, ("no-such-sanitizer", "--tool")), 30, log)
    said = (tmp_path / "log").read_text()
    assert "well\n" in said
    for line in ("a: done", "b: failed with 3", "c: stopped, out of time", "d: left out, no-such-sanitizer is not"):
        assert line in said


@pytest.mark.parametrize("name", ["layers", "encoders", "loading"])
def test_steps_call_benchmarks_as_these_expect(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, program, *arguments = gpu_checks.STEPS[name].arguments
    assert program == "tools.bench"
    with pytest.raises(SystemExit) as ended:
        benchmarks.main([*arguments, "--help"])
    assert ended.value.code == 0
    assert "--seconds" in capsys.readouterr().out


def test_results_and_tiles_are_gathered(plain: Path) -> None:
    (plain / "cache" / "bhk").mkdir(parents=True)
    (plain / "cache" / "bhk" / "tiles.csv").write_text("tiles\n")
    (plain / "results" / "older.csv").write_text("b\n")
    os.utime(plain / "results" / "older.csv", (0, 0))
    assert check(["fine", "csv"], Budget(60), plain / "out")
    assert sorted(path.name for path in (plain / "out").iterdir()) == ["gpu_checks.log", "some.csv", "tiles.csv"]
    assert not check(["fine", "bad"], Budget(60), plain / "out")
    assert "ZeroDivisionError" in (plain / "out" / "gpu_checks.log").read_text()


def test_no_step_starts_without_time(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(["bad"], Budget(5), plain / "out")
    assert "bad: no time left" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_checks"])
    assert gpu_checks.main() == 1
    assert "nothing was run" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["gpu_checks", "tests", "nope"])
    with pytest.raises(SystemExit):
        gpu_checks.main()
    assert "no step 'nope'" in capsys.readouterr().err
