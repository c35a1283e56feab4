"""SECURITY.md and what it says about itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bhk.base import limits
from bhk.base.texts import size

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "SECURITY.md").read_text("utf-8")
_PROMISES = re.findall(r"^(\d+)\. \*\*", _TEXT, re.MULTILINE)


def test_promises_are_numbered() -> None:
    assert list(map(int, _PROMISES)) == list(range(1, len(_PROMISES) + 1))
    assert len(_PROMISES) >= 10


@pytest.mark.parametrize("number", _PROMISES)
def test_a_test_holds_each_promise(number: str) -> None:
    texts = (path.read_text("utf-8") for path in (_ROOT / "tests").rglob("test_*.py") if path != Path(__file__))
    assert any(re.search(rf"promises? (\d+(, | and ))*{number}\b[^.]* of SECURITY\.md", text) for text in texts)


def test_the_table_of_limits_is_that_of_the_code() -> None:
    found = re.findall(r"^\| `(\w+)` \| ([\d,]+)( [MG]iB)? \|", _TEXT, re.MULTILINE)
    units = {"": 1, " MiB": 1 << 20, " GiB": 1 << 30}
    listed = {variable: int(number.replace(",", "")) * units[unit] for variable, number, unit in found}
    known = {limit.variable: limit.default for limit in vars(limits).values() if isinstance(limit, limits.Limit)}
    assert listed == known
    assert f"{limits.EXPANSION} times" in _TEXT
    assert size(1 << 30)
