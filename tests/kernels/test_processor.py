from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bhk.kernels import processor


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what was measured; nothing was yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(processor, "_seconds", lambda product: product())
    processor._is_faster.cache_clear()
    yield tmp_path / "bhk" / "products.csv"
    processor._is_faster.cache_clear()


def _ways(new: float, old: float):
    """Return what makes two products; here a product tells how long it takes."""
    return lambda: (lambda: new, lambda: old)


def _refuse():
    pytest.fail("measured again")


@pytest.mark.parametrize("is_quick", [True, False])
def test_the_faster_way_is_measured_once_and_kept(cache: Path, is_quick: bool) -> None:
    times = (1.0, 2.0) if is_quick else (2.0, 1.0)
    assert processor.is_faster("new", "old", _ways(*times)) is is_quick
    processor._is_faster.cache_clear()
    assert processor.is_faster("new", "old", _refuse) is is_quick
    name, version, threads, *_ = cache.read_text().splitlines()[0].rsplit(",", 6)
    assert (name.strip('"'), version, threads) == (
        processor.processor(),
        torch.__version__,
        str(torch.get_num_threads()),
    )


def test_other_machines_versions_and_threads_do_not_count(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processor.is_faster("new", "old", _ways(1, 2))
    processor._is_faster.cache_clear()
    monkeypatch.setattr(processor, "processor", lambda: "another")
    assert not processor.is_faster("new", "old", _ways(2, 1))
    assert len(cache.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff\xfe", b"x,1,1,new,old,fast,slow\n"])
def test_a_damaged_file_counts_as_empty(cache: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    assert processor.is_faster("new", "old", _ways(1, 2))


def test_without_a_place_to_write_it_is_measured_in_each_process(cache: Path) -> None:
    cache.parent.write_text("a file where the folder should be")
    assert processor.is_faster("new", "old", _ways(1, 2))


def test_what_other_work_disturbed_is_not_kept(cache: Path) -> None:
    seconds = iter([1, 1, 1, 1, *[2] * 4])
    assert processor.is_faster("new", "old", lambda: (lambda: next(seconds), lambda: 3))
    assert not cache.exists()


def test_threads_measure_once(cache: Path) -> None:
    made: list[int] = []

    def make():
        made.append(1)
        return lambda: 1, lambda: 2

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: processor.is_faster("new", "old", make), range(8)))
    assert len(made) == 1


def test_a_little_faster_is_not_worth_it() -> None:
    assert not processor.is_faster("new", "old", _ways(0.95, 1))


def test_every_machine_has_a_name() -> None:
    assert processor.processor()
