from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.base.errors import OptionError
from bhk.engines import ray_cluster
from bhk.engines.errors import ClusterError, WorkerError
from bhk.engines.ray_cluster import Ray
from bhk.pictures.scenes import make_scene
from engines import ray_work
from engines.ray_work import Sum

_TESTS = Path(__file__).parent.parent
_SHARDS = [(0, 1), (2, 3), (4, 5), (6,)]
_SUMS = {0: Sum(1, 1), 1: Sum(5, 1), 2: Sum(9, 1), 3: Sum(6, 1)}


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Any]:
    """A cluster of one node with two CPUs, in processes of its own."""
    ray = pytest.importorskip("ray")
    paths = os.pathsep.join((str(_TESTS), str(_TESTS.parent)))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The cluster, seen from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return _cluster


def test_a_worker_that_is_made_anew_checks_its_folder_and_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    work, versions = pickle.dumps(ray_work.add), ray_cluster._versions()
    (tmp_path / "shared").mkdir()
    assert ray_cluster._Worker(work, str(tmp_path / "shared"), versions).run((0, 1)).total == 1  # type: ignore[attr-defined]
    assert Path.cwd() == tmp_path / "shared"
    with pytest.raises(WorkerError, match=r"lacks the folder .*missing"):
        ray_cluster._Worker(work, str(tmp_path / "missing"), versions).run((0, 1))
    with pytest.raises(WorkerError, match=r"but torch 1\.0 here"):
        ray_cluster._Worker(work, str(tmp_path), versions | {"torch": "1.0"}).run((0, 1))


def test_odd_numbers_and_addresses_are_refused() -> None:
    with pytest.raises(OptionError, match="inf GPUs"):
        Ray(gpus=float("inf"))
    with pytest.raises(ClusterError, match="no Ray cluster answers"):
        ray_cluster._check_reachable("a..b:80")


@pytest.mark.full
@pytest.mark.parametrize("work", [ray_work.add, ray_work.fail_once, ray_work.end_once])
def test_nothing_shows_of_what_was_lost_on_the_way(cluster: Any, work: Callable[[tuple[int, ...]], Sum]) -> None:
    assert dict(Ray(workers=2).compute(work, _SHARDS, range(4))) == _SUMS
    assert Path("attempted").exists() == (work is not ray_work.add)


@pytest.mark.full
def test_the_others_go_on_when_a_shard_always_fails(cluster: Any) -> None:
    found = dict(Ray().compute(ray_work.fail, _SHARDS, range(4)))
    assert (found[0], found[3]) == (Sum(0, -1), Sum(0, 0))
    assert isinstance(found[1], WorkerError)
    assert "ZeroDivisionError" in str(found[1])
    assert isinstance(found[2], WorkerError)
    assert str(found[2]).startswith("a worker on Ray was lost 4 times with one shard: ")
    assert "\n" not in str(found[2])


@pytest.mark.full
def test_nodes_must_have_the_same_versions_and_folder(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match=r"has 2 CPUs and 0 GPUs; each worker needs 1 CPU and 0.5 of a GPU$"):
        list(Ray(gpus=0.5).compute(ray_work.add, _SHARDS, range(4)))
    monkeypatch.setattr(ray_cluster.os, "getcwd", lambda: str(tmp_path / "elsewhere"))
    with pytest.raises(
        ClusterError, match=r"lacks the folder .*elsewhere \(No such file or directory\); work in one that"
    ):
        list(Ray(workers=1).compute(ray_work.add, _SHARDS, range(4)))
    monkeypatch.setattr(ray_cluster, "__version__", "9.8")
    with pytest.raises(
        ClusterError, match=rf"^bhk {bhk.__version__} on the node .*, but bhk 9.8 here; install the same"
    ):
        list(Ray(workers=1).compute(ray_work.add, _SHARDS, range(4)))


@pytest.mark.full
def test_an_evaluation_on_ray_is_that_of_one_process(cluster: Any, tmp_path: Path) -> None:
    torch.save(models.small_sam().state_dict(), "sam.pth")
    bhk.convert("sam.pth")
    Path("pictures").mkdir()
    for number in range(9):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(f"pictures/{number}.png")
    Path("pictures/bad.png").write_bytes(b"no picture")
    seen = []

    def run(workers: int | Ray, work_dir: str) -> bhk.FidelityReport:
        return bhk.fidelity(
            "sam.bhk",
            "pictures",
            against="sam.pth",
            settings=bhk.FidelitySettings(points=2, boxes=1, control=False),
            workers=workers,
            work_dir=work_dir,
            progress=lambda stage, done, total: seen.append((stage, done, total)),
        )

    found = run(Ray(workers=2), "on_ray")
    assert seen == [("Evaluating", done, 10) for done in (0, 4, 8, 10)]
    assert found == run(1, "here")
    for name in ("shard-000000.json", "shard-000001.json", "shard-000002.json"):
        assert Path("on_ray", name).read_bytes() == Path("here", name).read_bytes()


def test_an_address_where_nothing_answers() -> None:
    pytest.importorskip("ray")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(
        ClusterError, match=rf"^no Ray cluster answers at {address} \(Connection refused\); check address, or start one"
    ):
        list(Ray(address).compute(ray_work.add, _SHARDS, range(4)))


@pytest.mark.parametrize("options", [{"workers": 0}, {"gpus": -1}, {"gpus": 1.5}, {"gpus": float("nan")}])
def test_numbers_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        Ray(**options)
