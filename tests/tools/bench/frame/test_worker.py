from __future__ import annotations

import os

import pytest

from tools.bench.frame.process import ProcessError
from tools.bench.frame.worker import Worker


def test_an_object_lives_in_another_process() -> None:
    with Worker(list, (3, 1)) as worker:
        worker.append(2)
        worker.sort()
        assert worker.copy() == [1, 2, 3]


def test_what_fails_there_is_told_here_and_the_object_lives_on() -> None:
    with Worker(list, (3, 1)) as worker:
        with pytest.raises(ProcessError, match=r"ValueError: list\.remove"):
            worker.remove(9)
        assert worker.copy() == [3, 1]


def test_an_object_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(ProcessError, match="ValueError: invalid literal"):
        Worker(int, "three")


def test_a_process_that_ends_is_an_error() -> None:
    with pytest.raises(ProcessError, match="its process ended with code 3"):
        Worker(os._exit, 3)


def test_a_process_that_was_killed_is_an_error_at_the_next_call() -> None:
    with Worker(list) as worker:
        worker._process.kill()
        worker._process.join()
        with pytest.raises(ProcessError, match="its process ended with code -9"):
            worker.copy()
