"""Ray clusters of two nodes, each of which is a raylet of its own on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sam import models

import bhk
from bhk.engines.errors import ClusterError, WorkerError
from bhk.engines.ray_cluster import Ray
from bhk.evaluation.places import Place
from bhk.pictures.scenes import make_scene
from engines import ray_work
from engines.ray_work import Sum

pytestmark = pytest.mark.full

_TESTS = Path(__file__).parent.parent
_NODE: dict[str, Any] = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with one CPU. This process works in an empty folder."""
    utilities = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(_TESTS), str(_TESTS.parent))))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    cluster = utilities.Cluster(initialize_head=True, head_node_args=_NODE)
    yield cluster
    cluster.shutdown()


def other_bhk(folder: Path) -> dict[str, str]:
    """Put a bhk of another version into a folder, and return the variables of a node that uses it."""
    shutil.copytree(Path(bhk.__file__).parent, folder / "bhk", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bhk" / "version.py").write_text('__version__ = "9.8"\n')
    return {"PYTHONPATH": os.pathsep.join((str(folder), os.environ["PYTHONPATH"]))}


def test_a_node_that_is_removed_does_not_show(cluster: Any) -> None:
    """The worker on it is made anew where another one ends, as there is no CPU to spare."""
    second = cluster.add_node(**_NODE)
    shards = [(number,) for number in range(12)]
    found = {}
    for index, result in Ray(cluster.address, workers=2).compute(ray_work.mark_node, shards, range(12)):
        found[index] = result
        if second is not None and len(list(Path().glob("on-*"))) == 2:
            cluster.remove_node(second)
            second = None
    assert second is None
    assert found == {number: Sum(number, 1) for number in range(12)}


def test_an_evaluation_on_two_nodes_is_that_of_one_process(cluster: Any) -> None:
    second = cluster.add_node(**_NODE)
    torch.save(models.small_sam().state_dict(), "sam.pth")
    bhk.convert("sam.pth")
    Path("pictures").mkdir()
    for number in range(24):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(f"pictures/{number}.png")

    def run(workers: int | Ray, **resources: Any) -> bhk.FidelityReport:
        settings = bhk.FidelitySettings(points=2, boxes=1, control=False)
        return bhk.fidelity("sam.bhk", "pictures", against="sam.pth", settings=settings, workers=workers, **resources)

    def remove(_: str, done: int, total: int) -> None:
        nonlocal second
        if second is not None and 0 < done < total:
            cluster.remove_node(second)
            second = None

    assert run(Ray(cluster.address, workers=2), work_dir="kept", progress=remove) == run(1)
    assert second is None


def test_a_node_with_another_version_is_named(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(**_NODE, env_vars=other_bhk(tmp_path / "other"))
    with pytest.raises(
        ClusterError, match=rf"^bhk 9\.8 on the node .*, but bhk {bhk.__version__} here; install the same"
    ):
        list(Ray(cluster.address, workers=2).compute(ray_work.add, [(1,), (2,)], range(2)))


def test_a_node_whose_bhk_knows_no_ray_is_said_in_a_line(cluster: Any, tmp_path: Path) -> None:
    variables = other_bhk(tmp_path / "other")
    (tmp_path / "other" / "bhk" / "engines" / "ray_cluster.py").unlink()
    cluster.add_node(**_NODE, env_vars=variables)
    with pytest.raises(ClusterError, match=r"^a worker cannot start on the Ray cluster: .*ray_cluster") as refused:
        list(Ray(cluster.address, workers=2).compute(ray_work.add, [(1,), (2,)], range(2)))
    assert "\n" not in str(refused.value)


def test_a_cluster_with_another_ray_or_python_is_said_in_a_line(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    utilities = pytest.importorskip("ray._private.utils")
    version, _ = utilities.compute_version_info()
    monkeypatch.setattr(utilities, "compute_version_info", lambda: (version, "3.8.1"))
    with pytest.raises(ClusterError, match=r"^cannot connect with the Ray cluster .* mismatch.*3\.8\.1") as refused:
        list(Ray(cluster.address).compute(ray_work.add, [(1,)], range(1)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("hidden", ["work", "pictures"])
def test_files_that_only_one_node_has_are_missed(cluster: Any, tmp_path: Path, hidden: str) -> None:
    """A second node sees an empty folder in place of one of this machine."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / "a.png")
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("cannot hide folders from a process")
    script = 'mount -t tmpfs none "$1" && exec "$2" -m ray.scripts.scripts start --address="$3" --num-cpus=1 --block'
    command = ["unshare", "--mount", "sh", "-c", script, "-", str(tmp_path / hidden), sys.executable, cluster.address]
    picture = Place("a.png", str(tmp_path / "pictures" / "a.png"))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as node:
        try:
            cluster.connect()
            import ray

            while ray.cluster_resources().get("CPU") != 2:
                assert node.poll() is None
            computed = Ray(workers=2).compute(ray_work.side, [(picture,)] * 12, range(12))
            if hidden == "work":
                with pytest.raises(
                    ClusterError, match=r"^the node .* lacks the folder .*work \(No such file.*; work in one"
                ):
                    list(computed)
            else:
                found = [result for _, result in computed]
                assert Sum(9, 1) in found
                lost = [str(result) for result in found if isinstance(result, WorkerError)]
                assert lost
                assert all("a.png is not on" in line and "all machines need the same files" in line for line in lost)
        finally:
            ray.shutdown()
            node.terminate()
