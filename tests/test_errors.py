from __future__ import annotations

import re

import pytest

import bhk
from bhk.base.errors import BhkError


@pytest.mark.parametrize("name", bhk.errors.__all__)
def test_every_error_is_the_class_that_is_raised(name: str) -> None:
    found = getattr(bhk.errors, name)
    assert issubclass(found, BhkError)
    assert found.__name__ == name


def test_every_error_is_described() -> None:
    assert bhk.errors.__doc__ is not None
    described = re.findall(r"^    (\w+): ", bhk.errors.__doc__, re.MULTILINE)
    assert sorted([*described, "BhkError"]) == sorted(bhk.errors.__all__)
