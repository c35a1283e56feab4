from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bhk.base.files import DestinationExistsError, WriteError
from bhk.base.report import Report, plain, streamed_json
from bhk.base.screen import Screen
from bhk.base.tables import Column, Table


@dataclass(frozen=True)
class _Found(Report):
    path: Path
    values: tuple[float, ...]

    def lines(self) -> Iterator[str | Table]:
        yield f"{self.path}"
        yield Table([Column("value")], [(str(value),) for value in self.values])


def test_a_report_prints_as_text_and_escapes_what_steers_a_terminal() -> None:
    assert str(_Found(Path("a\n\x1b[31m"), (1.5,))) == "a\\n\\x1b[31m\nvalue\n─────\n  1.5"


def test_a_report_fits_a_screen() -> None:
    screen = Screen(width=12, encoding="ascii")
    assert _Found(Path("a few words – more"), (1.5,)).text(screen) == "a few words\n  - more\nvalue\n-----\n  1.5"


def test_a_report_is_saved_as_json(tmp_path: Path) -> None:
    found = _Found(Path("ü"), (1.5, math.nan, -math.inf))
    assert found.hints == ()
    found.save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"path": "ü", "values": [1.5, None, None]}
    with pytest.raises(DestinationExistsError):
        found.save(tmp_path / "a.json")
    with pytest.raises(WriteError, match="is a folder"):
        found.save(tmp_path, force=True)
    _Found(Path("b"), ()).save(tmp_path / "a.json", force=True)
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"path": "b", "values": []}


def test_values_become_plain() -> None:
    assert plain((1, True, None, "x", [Path("a")])) == [1, True, None, "x", ["a"]]
    assert plain({3: "n\udcff"}) == {"3": "n\udcff"}
    assert plain(_Found) is _Found  # the class itself is no record


class _Counted(Collection[int]):
    """Numbers that are made when they are gone through."""

    made = 0

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[int]:
        for number in range(3):
            self.made += 1
            yield number

    def __contains__(self, value: object) -> bool:
        return value in range(3)


def test_the_items_of_collections_become_json_one_by_one() -> None:
    items = _Counted()
    parts = streamed_json({"a": Path("ü\n\x1b"), "items": items, "b": (1.5, math.inf)}, 2)
    begun = ""
    while not begun.endswith("1"):
        begun += next(parts)
    assert items.made == 2
    assert plain(items) == [0, 1, 2]
    expected = {"a": "ü\n\x1b", "items": [0, 1, 2], "b": [1.5, None]}
    assert begun + "".join(parts) == json.dumps(expected, indent=2, ensure_ascii=False)
