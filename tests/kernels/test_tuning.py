"""The choice of tiles, with times made up by the tests; test_gpu.py uses times of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from triton.runtime.errors import OutOfResources

from bhk.kernels import few_rows, integer, tuning
from bhk.kernels.gpu import Gpu
from bhk.kernels.tuning import Measured, Problem, Tile

GPU = Gpu("Some GPU", 100, 227 << 10)
PROBLEM = Problem("few_rows", "bfloat16", 16, 4096, 1024)
TILES = [Tile(16, 64, 128, 4, 4, 3), Tile(16, 64, 64, 2, 4, 4), None]


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Tile | None]]:
    """The tiles that were timed, where the second is the fastest and nothing is known before."""
    asked: list[Tile | None] = []

    def microseconds(tile: Tile | None, launch: object) -> float:
        asked.append(tile)
        return 5.0 if tile == TILES[1] else 9.5

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "_microseconds", microseconds)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # without a driver, an error
    _forget(monkeypatch)
    yield asked
    tuning._known.cache_clear()


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act like a new process."""
    monkeypatch.setattr(tuning, "_chosen", {})
    tuning._known.cache_clear()


def _choose(dtype: torch.dtype = torch.bfloat16, gpu: Gpu = GPU, precision: str = "ieee") -> Tile | None:
    x = torch.empty(11, PROBLEM.width, dtype=dtype)
    return tuning.choose(gpu, "few_rows", x, PROBLEM.out, precision, lambda: TILES, lambda tile: torch.empty(0))


def test_a_shape_is_measured_once(timed, monkeypatch) -> None:
    assert [_choose(), _choose()] == [TILES[1]] * 2
    assert timed == TILES
    _forget(monkeypatch)
    assert _choose() == TILES[1]
    assert timed == TILES
    assert list(tuning.read(tuning.cache_path())) == [Measured("Some GPU", PROBLEM, TILES[1], 5.0, 9.5)]


def test_other_shapes_and_gpus_are_measured_anew(timed) -> None:
    another = Gpu("Another GPU", 100, 227 << 10)
    for count, arguments in enumerate(
        [
            (torch.bfloat16,),
            (torch.float16,),
            (torch.bfloat16, another),
            (torch.float32,),
            (torch.float32, GPU, "tf32"),
        ]
    ):
        _choose(*arguments)
        assert len(timed) == 3 * (count + 1)


def test_the_choice_to_decode_is_kept_too(timed, monkeypatch) -> None:
    monkeypatch.setattr(tuning, "_microseconds", lambda tile, launch: 1.0 if tile is None else 2.0)
    assert _choose() is None
    _forget(monkeypatch)
    monkeypatch.setattr(tuning, "_microseconds", lambda tile, launch: pytest.fail("measured again"))
    assert _choose() is None


def test_the_shipped_table_takes_precedence_over_the_cache(timed, monkeypatch, tmp_path) -> None:
    _choose()
    tuning.write([Measured("Some GPU", PROBLEM, TILES[0], 4.0, 4.0)], tmp_path / "shipped.csv")
    monkeypatch.setattr(tuning, "SHIPPED", tmp_path / "shipped.csv")
    _forget(monkeypatch)
    assert _choose() == TILES[0]


def test_a_tile_that_is_no_longer_offered_is_measured_anew(timed, monkeypatch) -> None:
    tuning.cache_path().parent.mkdir(parents=True)
    tuning.write([Measured("Some GPU", PROBLEM, Tile(16, 999, 64, 1, 4, 3), 1.0, 1.0)], tuning.cache_path())
    assert _choose() == TILES[1]


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"Some GPU,few_rows,bfloat16,16,40", b"\n,,,\n1,2,3\n", b""])
def test_a_damaged_cache_counts_as_empty(timed, damage: bytes) -> None:
    tuning.cache_path().parent.mkdir(parents=True)
    tuning.cache_path().write_bytes(damage)
    assert _choose() == TILES[1]


def test_without_a_writable_cache_tiles_are_measured_again(timed, monkeypatch, tmp_path) -> None:
    (tmp_path / "bhk").write_text("a file in the place of the folder")
    assert _choose() == TILES[1]
    _forget(monkeypatch)
    assert _choose() == TILES[1]
    assert len(timed) == 6


def test_nothing_is_measured_while_a_graph_is_captured(timed, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert _choose() == TILES[0]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert _choose() == TILES[1]


def test_the_first_tile_is_used_if_there_is_no_memory_to_measure(timed, monkeypatch) -> None:
    def fail(tile: Tile | None, launch: object) -> float:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(tuning, "_microseconds", fail)
    assert _choose() == TILES[0]
    assert not tuning.cache_path().exists()


@pytest.mark.parametrize(
    "error", [RuntimeError("PassManager::run failed"), OutOfResources(300000, 232448, "shared memory")]
)
def test_a_tile_that_does_not_compile_is_the_slowest(error: Exception) -> None:
    def launch(tile: Tile | None) -> torch.Tensor:
        raise error

    assert tuning._microseconds(TILES[0], launch) == float("inf")


def test_the_shipped_table_is_valid() -> None:
    lines = tuning.SHIPPED.read_text(encoding="utf-8").splitlines()
    assert tuple(lines[0].split(",")) == tuning.COLUMNS
    assert len(list(tuning.read(tuning.SHIPPED))) == len(lines) - 1


@pytest.mark.parametrize("shared", [48 << 10, 64 << 10, 99 << 10, 163 << 10, 227 << 10])
def test_there_is_a_tile_for_every_gpu(shared: int) -> None:
    gpu = Gpu("Any GPU", 30, shared)
    for rows in (1, 17, 64):
        for itemsize in (2, 4):
            tiles = few_rows.tiles_for(rows, 256, 128, itemsize, gpu)
            assert len(set(tiles)) == len(tiles) > 0
            assert all(tile.rows >= min(rows, 16) and tile.splits >= 1 for tile in tiles)
    for correction in (False, True):
        tiles = integer.tiles_for(4096, 1280, gpu, has_correction=correction)
        assert tiles
        assert all(tile.stages * tile.depth * (tile.rows + tile.out) <= shared for tile in tiles)
