from __future__ import annotations

import pytest

from tools.scale_simulation import Cluster
from tools.scale_table import cores, merging, scale, throughput, uneven


def _row(model: str, side: str, encoder: str, prompt: str) -> dict[str, str]:
    return {"model": model, "side": side, "encoder_s": encoder, "prompt_s": prompt, "threads": "2"}


def test_both_models_are_counted_on_one_core() -> None:
    rows = [
        _row("SAM-B", "dense", "10", "0.05"),
        _row("SAM-B", "bhk exact", "5", "0.1"),
        _row("SAM-B", "bhk int8", "1", "0.1"),
        _row("Other", "dense", "1", "0.1"),
        _row("Other", "bhk exact", "", ""),  # failed
    ]
    _, _, line = scale(rows)
    fidelity, accuracy = 2 * (15 + 64 * 0.15), 2 * (15 + 100 * 0.15)
    cells = [cell.strip() for cell in line.strip("| ").split("|")]
    assert cells == ["SAM-B", f"{fidelity:.0f}", f"{accuracy:.0f}", f"{accuracy * 10_000 / 3600:.0f}", "21"]


_SAM_B = [_row("SAM-B", "dense", "10", "0.05"), _row("SAM-B", "bhk exact", "5", "0.1")]  # 60 seconds a picture
_MERGES = [
    {"protocol": protocol, "pictures": pictures, "masks": masks, "bytes": "5000", "seconds": seconds, "peak_mib": mib}
    for protocol, pictures, masks, seconds, mib in (
        ("fidelity", "10000", "64", "10", "100"),
        ("fidelity", "100000", "64", "100", "190"),
        ("fidelity", "1000000", "8", "500", "300"),
        ("accuracy", "10000", "100", "10", "100"),
        ("accuracy", "110000", "100", "110", "200"),
    )
]


def _cells(text: str) -> list[str]:
    return [cell.strip() for cell in text.strip("| ").split("|")]


def test_all_of_sa1b_on_many_cores() -> None:
    found = cores(_SAM_B)
    days = 11_185_362 * 60 / 1000 / 86400
    assert _cells(found[3]) == ["1,000", f"{days:.1f}", "17", "16", "15,000"]


def test_merges_are_listed_and_continued() -> None:
    found = merging(_MERGES)
    assert _cells(found[3]) == ["fidelity", "100,000", "64", "5.0", "100", "199"]
    hours = 11_185_362 / 1000 / 3600
    assert found[-1].startswith(
        f"At this rate, all of SA-1B takes {hours:.1f} hours and 12 GB for fidelity with 64 masks a picture, and {hours:.1f}"
    )
    assert len(merging(_MERGES[:1])) == 3
    assert "not been measured" in merging([])[0]


def test_engines_are_listed() -> None:
    rows = [{"engine": "ray", "workers": "2", "pictures": "160", "seconds": "33.3", "pictures_a_second": "5.10"}]
    found = throughput(rows)
    assert "not been measured" in throughput([])[0]
    assert "seconds for 160 pictures" in found[0]
    assert _cells(found[2]) == ["Ray", "2", "33", "5.10"]


def test_equal_workers_waste_nothing() -> None:
    assert Cluster(4).ended(100, 4, 2.0) == Cluster(4).ended(100, 100, 2.0) == 50


@pytest.mark.parametrize("seed", range(3))
def test_small_tasks_even_out_what_differs(seed: int) -> None:
    cluster = Cluster(8, 0.3, seed=seed)
    whole, few, single = (cluster.ended(800, tasks, 1.0) for tasks in (8, 32, 800))
    assert 100 / 2 < single < few < whole
    assert cluster.ended(800, 8, 3.0) == pytest.approx(3 * whole)


@pytest.mark.parametrize("tasks", [8, 800])
def test_what_a_lost_worker_leaves_is_done_by_others(tasks: int) -> None:
    """Nothing is done twice apart from the shard that it was at, and seven eighths of the workers take longer."""
    ends = [Cluster(8, 0.0, 1 / 8, seed).ended(800, tasks, 1.0) for seed in range(9)]
    assert all(100 < end <= 200 for end in ends)
    if tasks == 800:
        assert all(end <= 800 / 7 + 2 for end in ends)


def test_the_simulation_has_a_line_for_each_kind_of_cluster() -> None:
    found = [_cells(text) for text in uneven(_SAM_B)[2:]]
    assert [row[:2] for row in found] == [["0%", "0%"], ["10%", "0%"], ["30%", "0%"], ["10%", "10%"], ["30%", "10%"]]
    assert len(set(found[0][2:])) == 1
