from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch

from bhk.base.errors import BhkError
from bhk.base.workdir import WorkDirError
from bhk.evaluation.shards import WorkerError, run_shards, split


class Sum(msgspec.Struct, frozen=True):
    total: int
    threads: int


def _add(offset: int, shard: tuple[int, ...]) -> Sum:
    return Sum(offset + sum(shard), torch.get_num_threads())


def _fail(shard: tuple[int, ...]) -> Sum:
    if shard[0] == 2:
        raise BhkError("the third is bad")
    if shard[0] == 3:
        raise ZeroDivisionError
    if shard[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Sum(0, 0)


_SHARDS = split(range(7), 2)
_FINGERPRINT = {"model": "a", "seed": "0"}
_EXPECTED = [Sum(11, 1), Sum(15, 1), Sum(19, 1), Sum(16, 1)]


def test_split() -> None:
    assert _SHARDS == [(0, 1), (2, 3), (4, 5), (6,)]
    assert split([], 3) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_in_order_and_computed_on_one_thread(workers: int) -> None:
    seen: list[tuple[int, int]] = []
    found = run_shards(
        partial(_add, 10),
        _SHARDS,
        Sum,
        workers=workers,
        fingerprint={},
        advance=lambda done, total: seen.append((done, total)),
    )
    assert found == _EXPECTED
    assert seen == [(done, 4) for done in range(5)]


def test_saved_results_are_not_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "work"
    calls = []

    def work(shard: tuple[int, ...]) -> Sum:
        calls.append(shard)
        return _add(10, shard)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_shards(work, _SHARDS, Sum, work_dir=folder, fingerprint=_FINGERPRINT, advance=stop)
    assert run_shards(work, _SHARDS, Sum, work_dir=folder, fingerprint=_FINGERPRINT) == _EXPECTED
    assert calls == _SHARDS
    assert run_shards(work, _SHARDS, Sum, workers=2, work_dir=folder, fingerprint=_FINGERPRINT) == _EXPECTED
    assert calls == _SHARDS
    assert json.loads((folder / "shard-000003.json").read_bytes()) == {"total": 16, "threads": 1}


def test_results_of_other_work_are_refused(tmp_path: Path) -> None:
    run_shards(partial(_add, 0), _SHARDS, Sum, work_dir=tmp_path, fingerprint=_FINGERPRINT)
    with pytest.raises(WorkDirError, match=r"other work \(different model, points\); give another folder"):
        run_shards(
            partial(_add, 0), _SHARDS, Sum, work_dir=tmp_path, fingerprint={"model": "b", "seed": "0", "points": "3"}
        )
    (tmp_path / "shard-000001.json").write_bytes(b'{"total": 1')
    with pytest.raises(WorkDirError, match=r"shard-000001.json is not a result of this work .*; remove the file"):
        run_shards(partial(_add, 0), _SHARDS, Sum, work_dir=tmp_path, fingerprint=_FINGERPRINT)


@pytest.mark.parametrize(
    ("number", "message"),
    [(2, "^the third is bad$"), (3, "ZeroDivisionError"), (4, "a worker process was killed")],
)
def test_a_failed_worker_is_one_error(number: int, message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        run_shards(_fail, [(0,), (number,)], Sum, workers=2, fingerprint={})


class _Ending:
    """Ends the process that unpickles it."""

    def __call__(self, shard: bytes) -> Sum:
        raise AssertionError

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


def test_a_worker_that_ends_before_it_receives_a_shard_larger_than_a_pipe() -> None:
    with pytest.raises(WorkerError, match="a worker process was killed"):
        run_shards(_Ending(), [bytes(1 << 20)] * 2, Sum, workers=2, fingerprint={})
