from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench.frame.process import ProcessError, apart, bhk_command

MIB = 1 << 20


def fills(size: str) -> Iterator[None]:
    """Allocate memory in two stages."""
    import numpy as np

    yield
    one = np.ones(int(size) * MIB, np.uint8)
    time.sleep(0.1)
    yield
    other = np.ones(int(size) * MIB, np.uint8)
    yield
    assert len(one) == len(other)


def reads(path: str) -> Iterator[None]:
    yield
    Path(path).read_bytes()
    yield


def fails() -> Iterator[None]:
    yield
    raise ValueError("of no use")


def hangs() -> Iterator[None]:
    yield
    time.sleep(60)
    yield


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process import this file by its own name."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    for work in (fills, reads, fails, hangs):
        work.__module__ = Path(__file__).stem


def test_stages_are_timed_and_their_memory_is_counted() -> None:
    found = apart(fills, 64)
    first, second = found.stages
    assert 0.1 < first.seconds < second.seconds < found.seconds
    assert first.host_peak_mib is not None
    assert second.host_peak_mib is not None
    assert 60 < first.host_peak_mib < 100 < second.host_peak_mib < 160
    assert 60 * MIB < found.anonymous_peak < 160 * MIB
    assert first.gpu_mib is None


def test_bytes_that_are_read_are_counted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100_000))
    (stage,) = apart(reads, tmp_path / "file").stages
    assert 100_000 <= stage.read < 102_000


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(ProcessError, match="ValueError: of no use"):
        apart(fails)


def test_a_process_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(ProcessError, match="stopped after 2 s"):
        apart(hangs, longest=2)


def test_commands_are_run_as_a_user_does() -> None:
    ended = bhk_command("--version")
    assert "bhk" in ended.output
    assert ended.seconds > 0
    assert ended.peak_mib > 5
    with pytest.raises(ProcessError, match="bhk inspect failed"):
        bhk_command("inspect", "no_such_file.bhk")
