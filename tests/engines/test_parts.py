from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bhk.engines.parts import Part, PartError


def _slurm(here: int, count: int, first: int, last: int, step: int | None = None) -> dict[str, str]:
    values = {"ID": here, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items() if value is not None}


@given(shards=st.integers(0, 200), count=st.integers(1, 40))
def test_parts_hold_each_shard_once_and_are_of_equal_size(shards: int, count: int) -> None:
    shares = [Part(number, count).share(shards) for number in range(1, count + 1)]
    assert [index for share in shares for index in share] == list(range(shards))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [str(Part.of(index, shards, count)) for index in range(shards)] == [
        f"{number}/{count}" for number, share in enumerate(shares, 1) for _ in share
    ]


@pytest.mark.parametrize("text", ["0/8", "9/8", "1/0", "2", "2/8/1", "-1/8", "a/b", "", "２/８", "2 / 8"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(PartError, match="part"):
        Part.parse(text)
    assert Part.parse("2/8") == Part(2, 8)


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "4/4"),
        ({"RANK": "3"}, None),
        (_slurm(0, 8, 0, 7), "1/8"),
        (_slurm(1, 8, 1, 8, 1), "1/8"),
        (_slurm(14, 4, 2, 14, 4), "4/4"),
        (_slurm(5, 1, 5, 5), None),
        (_slurm(2, 3, 1, 3) | {"RANK": "1", "WORLD_SIZE": "4"}, "6/12"),
    ],
)
def test_slurm_arrays_and_torchrun_say_which_part(environment: Mapping[str, str], part: str | None) -> None:
    found = Part.of_environment(environment)
    assert (found and str(found)) == part


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            _slurm(7, 3, 1, 7, 1),
            r"array \(3 from 1 to 7\) do not follow each other in equal steps; say .* part=\"2/8\"",
        ),
        (_slurm(9, 3, 1, 3), "do not follow each other"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT is '', not a number"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x', not a number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE 2"),
    ],
)
def test_an_environment_that_does_not_say_it_is_refused(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(PartError, match=message):
        Part.of_environment(environment)
