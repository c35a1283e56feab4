from __future__ import annotations

import os
import signal

import msgspec
import pytest

from bhk.base.errors import BhkError
from bhk.engines.errors import WorkerError
from bhk.engines.processes import Processes
from bhk.engines.shards import run_shards


class Sum(msgspec.Struct, frozen=True):
    total: int
    threads: int


def _fail(shard: tuple[int, ...]) -> Sum:
    if shard[0] == 2:
        raise BhkError("the third is bad")
    if shard[0] == 3:
        raise ZeroDivisionError
    if shard[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Sum(0, 0)


@pytest.mark.parametrize(
    ("number", "message"),
    [(2, "^the third is bad$"), (3, "ZeroDivisionError"), (4, "a worker process was killed")],
)
def test_a_failed_worker_is_one_error(number: int, message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        run_shards(_fail, [(0,), (number,)], Sum, engine=Processes(2), fingerprint={})


class _Ending:
    """Ends the process that unpickles it."""

    def __call__(self, shard: bytes) -> Sum:
        raise AssertionError

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (1,)


def test_a_worker_that_ends_before_it_receives_a_shard_larger_than_a_pipe() -> None:
    with pytest.raises(WorkerError, match="a worker process was killed"):
        run_shards(_Ending(), [bytes(1 << 20)] * 2, Sum, engine=Processes(2), fingerprint={})


def test_the_others_go_on_when_one_fails_or_its_process_is_killed() -> None:
    shards = [(0,), (2,), (0,), (4,), (0,)]
    found = dict(Processes(2).compute(_fail, shards, range(5)))
    assert [index for index in sorted(found) if found[index] == Sum(0, 0)] == [0, 2, 4]
    assert isinstance(found[1], WorkerError)
    assert str(found[1]) == "the third is bad"
    assert isinstance(found[3], WorkerError)
    assert str(found[3]).startswith("a worker process was killed")
