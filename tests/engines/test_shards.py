from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch

from bhk.base.workdir import WorkDirError
from bhk.engines.errors import MissingResultsError
from bhk.engines.parts import Part
from bhk.engines.processes import Processes
from bhk.engines.shards import run_part, run_shards, split


class Sum(msgspec.Struct, frozen=True):
    total: int
    threads: int


def _add(offset: int, shard: tuple[int, ...]) -> Sum:
    return Sum(offset + sum(shard), torch.get_num_threads())


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
        engine=Processes(workers),
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
    assert list(run_shards(work, _SHARDS, Sum, work_dir=folder, fingerprint=_FINGERPRINT)) == _EXPECTED
    assert calls == _SHARDS
    by_two = run_shards(work, _SHARDS, Sum, engine=Processes(2), work_dir=folder, fingerprint=_FINGERPRINT)
    assert list(by_two) == _EXPECTED
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
        list(run_shards(partial(_add, 0), _SHARDS, Sum, work_dir=tmp_path, fingerprint=_FINGERPRINT))


def _calls(calls: list[tuple[int, ...]], shard: tuple[int, ...]) -> Sum:
    calls.append(shard)
    return _add(10, shard)


def test_parts_share_a_folder_and_are_merged(tmp_path: Path) -> None:
    calls: list[tuple[int, ...]] = []
    seen: list[tuple[int, int]] = []

    def run(number: int, fingerprint: dict[str, str] = _FINGERPRINT) -> range:
        return run_part(
            partial(_calls, calls),
            _SHARDS,
            Part(number, 3),
            engine=Processes(1),
            work_dir=tmp_path / "work",
            fingerprint=fingerprint,
            advance=lambda done, total: seen.append((done, total)),
        )

    def merge(fingerprint: dict[str, str] = _FINGERPRINT) -> list[Sum]:
        kept = run_shards(_add, _SHARDS, Sum, engine=None, work_dir=tmp_path / "work", fingerprint=fingerprint)  # type: ignore[arg-type]
        return list(kept)

    with pytest.raises(
        MissingResultsError, match="work holds no results to merge; run the parts with this work_dir first"
    ):
        merge()
    assert not (tmp_path / "work").exists()
    assert run(3) == range(2, 4)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    with pytest.raises(
        MissingResultsError, match=r"work lacks 2 of 4 shards, those of 1/3, 2/3; run these parts again$"
    ):
        merge()
    (tmp_path / "work" / "shard-000003.json").unlink()
    for number in (1, 2, 3):
        run(number)
    assert calls == [_SHARDS[index] for index in (2, 3, 0, 1, 3)]
    assert merge() == _EXPECTED
    with pytest.raises(WorkDirError, match=r"different seed"):
        merge({"model": "a", "seed": "1"})
    with pytest.raises(WorkDirError, match=r"different model"):
        run(1, {"model": "b", "seed": "0"})


def test_nothing_is_merged_without_a_folder() -> None:
    with pytest.raises(MissingResultsError, match="nothing to merge without a folder of results; give work_dir"):
        run_shards(partial(_add, 0), _SHARDS, Sum, engine=None, fingerprint={})


def test_results_in_a_folder_are_read_when_they_are_gone_through(tmp_path: Path) -> None:
    found = run_shards(partial(_add, 10), _SHARDS, Sum, work_dir=tmp_path, fingerprint=_FINGERPRINT)
    assert (len(found), list(found), list(found)) == (4, _EXPECTED, _EXPECTED)
    assert Sum(16, 1) in found
    assert Sum(17, 1) not in found
    (tmp_path / "shard-000002.json").unlink()
    results = iter(found)
    assert [next(results), next(results)] == _EXPECTED[:2]
    with pytest.raises(MissingResultsError, match=r"no longer holds shard-000002\.json, the result of a shard$"):
        next(results)
