from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bhk.base import threads
from bhk.base.parallel import ThreadsError, background, ordered_map, worker_count
from bhk.base.threads import ThreadStartError

_WAIT = 30.0  # seconds after which a thread that should have gone on fails the test


def test_results_come_in_order_whatever_finishes_first() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert later.wait(_WAIT)  # the first result is ready after the second
        if item == 1:
            later.set()
        return -item

    assert list(ordered_map(work, range(7), 2)) == [0, -1, -2, -3, -4, -5, -6]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 99])
def test_every_item_is_worked_on_once(count: int, threads: int) -> None:
    worked: list[int] = []
    assert list(ordered_map(worked.append, range(count), threads)) == [None] * count
    assert sorted(worked) == list(range(count))


def test_items_are_worked_on_side_by_side() -> None:
    meeting = threading.Barrier(3, timeout=_WAIT)
    names = set()

    def work(_: int) -> None:
        names.add(threading.current_thread().name)
        meeting.wait()  # goes on only when three threads are here

    assert list(ordered_map(work, range(3), 3)) == [None] * 3
    assert len(names) == 3


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_at_most_one_result_per_thread_and_one_more_are_computed_ahead(threads: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            drawn.append(item)
            yield item

    for done, result in enumerate(ordered_map(lambda item: item, items(), threads)):
        assert result == done
        assert len(drawn) - 1 - done <= threads + 1
    assert drawn == list(range(50))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_is_raised_in_its_turn_and_stops_the_rest(threads: int) -> None:
    worked: list[int] = []

    def work(item: int) -> int:
        worked.append(item)
        if item == 5:
            raise ZeroDivisionError("the fifth")
        return item

    results = ordered_map(work, range(100), threads)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError, match="the fifth"):
        next(results)
    assert max(worked) <= 5 + threads + 1
    assert list(results) == []


def test_an_error_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(ordered_map(lambda item: item, items(), 2))


def test_closing_early_stops_the_work_and_ends_the_threads() -> None:
    worked: list[int] = []
    results = ordered_map(lambda item: worked.append(item) or item, range(1000), 2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(worked) <= 1 + 2 + 2
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bhk")] == []


@pytest.mark.parametrize("end", ["exhausted", "closed", "failed"])
def test_the_number_of_torch_threads_is_restored(end: str) -> None:
    inside: list[int] = []

    def work(item: int) -> int:
        inside.append(torch.get_num_threads())
        return 1 // (7 - item)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = ordered_map(work, range(7 if end == "exhausted" else 100), 2)
        if end == "failed":
            with pytest.raises(ZeroDivisionError):
                list(results)
        elif end == "closed":
            next(results)
            results.close()  # type: ignore[attr-defined]
        else:
            list(results)
        assert torch.get_num_threads() == 2
        # Threads started from now on take the setting as well.
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen == [2]
    finally:
        torch.set_num_threads(before)
    assert set(inside) == {1}


def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    tensors = [torch.randn(100_001, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    one, many = ([float(total) for total in ordered_map(torch.sum, tensors, threads)] for threads in (1, 4))
    assert one == many


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to cores")
def test_only_usable_cores_count() -> None:
    cores = os.sched_getaffinity(0)
    assert worker_count(None) == len(cores)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert worker_count(None) == 1
        assert worker_count(7) == 7
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_threads_than_one_are_refused(threads: int) -> None:
    with pytest.raises(ThreadsError, match=f"cannot work with {threads} threads"):
        worker_count(threads)
    assert worker_count(1) == 1


def test_the_number_of_torch_threads_is_restored_after_the_last_map() -> None:
    first_is_done = threading.Event()
    seen: list[int] = []

    def overlap() -> None:
        second = ordered_map(lambda item: item, range(9), 2)
        next(second)
        began.set()
        assert first_is_done.wait(_WAIT)
        list(second)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        began = threading.Event()
        first = ordered_map(lambda item: item, range(9), 2)
        next(first)
        other = threading.Thread(target=overlap)  # finds torch set to one thread by the first map's workers
        other.start()
        assert began.wait(_WAIT)
        list(first)
        first_is_done.set()
        other.join()
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert seen == [torch.get_num_threads()] == [2]
    finally:
        torch.set_num_threads(before)


def test_other_threads_keep_their_number_of_torch_threads() -> None:
    def count() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return seen[0]

    def with_its_own() -> None:
        torch.set_num_threads(3)
        list(ordered_map(lambda item: item, range(9), 2))
        own.append(torch.get_num_threads())
        torch.set_num_threads(2)

    own: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        results = ordered_map(lambda item: torch.get_num_threads(), range(50), 2)
        assert next(results) == 1
        assert count() == 2  # started while the map runs
        other = threading.Thread(target=with_its_own)
        other.start()
        other.join()
        assert own == [3]
        assert set(results) == {1}
        assert torch.get_num_threads() == count() == 2
    finally:
        torch.set_num_threads(before)


def test_work_in_the_background_is_waited_for() -> None:
    began = threading.Event()

    def work(stopped: Callable[[], bool]) -> int:
        assert began.wait(_WAIT)
        return 7

    with background(work) as result:
        began.set()
        assert result() == 7


def test_an_error_in_the_background_is_raised_with_its_result() -> None:
    with background(lambda stopped: 1 // 0) as result, pytest.raises(ZeroDivisionError):
        result()


def test_work_in_the_background_is_told_to_stop() -> None:
    ends: list[bool] = []

    def work(stopped: Callable[[], bool]) -> None:
        while not stopped():
            time.sleep(0.001)
        ends.append(True)

    with pytest.raises(KeyboardInterrupt), background(work):
        raise KeyboardInterrupt
    assert ends == [True]
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bhk")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize(("name", "place"), threads._LIMITS.items())
def test_no_thread_starts_where_memory_is_nearly_used_up(
    monkeypatch: pytest.MonkeyPatch, name: str, place: int
) -> None:
    import resource

    limited = getattr(resource, name)
    used = int(Path("/proc/self/statm").read_text().split()[place]) * resource.getpagesize()
    for room, fits in ((1 << 30, True), (16 << 20, False)):
        most = {limited: used + room}
        monkeypatch.setattr(
            resource, "getrlimit", lambda which, most=most: (most.get(which, resource.RLIM_INFINITY), 0)
        )
        if fits:
            assert list(ordered_map(abs, [-1, -2], 2)) == [1, 2]
        else:
            with pytest.raises(ThreadStartError, match="use fewer threads"):
                list(ordered_map(abs, [-1, -2], 2))
