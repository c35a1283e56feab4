from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator

import pytest

import bhk
from bhk.base.errors import BhkError

_NEEDS_TRANSFORMERS = "bhk.transformers"  # importing it registers bhk there


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(bhk.__path__, "bhk.", onerror=lambda _: None):
        if not found.name.startswith((_NEEDS_TRANSFORMERS, "bhk.kernels", "bhk.__main__")):
            yield found.name


def _kinds(kind: type[BhkError] = BhkError) -> Iterator[type[BhkError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


@pytest.mark.parametrize("name", bhk.errors.__all__)
def test_every_error_is_the_class_that_is_raised(name: str) -> None:
    found = getattr(bhk.errors, name)
    assert issubclass(found, BhkError)
    assert found.__name__ == name


def test_every_error_is_described() -> None:
    assert bhk.errors.__doc__ is not None
    described = re.findall(r"^    (\w+): ", bhk.errors.__doc__, re.MULTILINE)
    assert sorted([*described, "BhkError"]) == sorted(bhk.errors.__all__)


def test_no_two_errors_have_one_name() -> None:
    for module in _modules():
        importlib.import_module(module)
    counts = Counter(kind.__name__ for kind in set(_kinds()))
    assert [name for name, count in counts.items() if count > 1] == []
