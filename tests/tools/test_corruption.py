"""A share of all attacks, run each time; and the watch that names what a reader does."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

from tools.corruption import watch
from tools.corruption.attacks import DAMAGE, Target
from tools.corruption.matrix import FORGED, Row, add, attacks, read, rows, run, save
from tools.corruption.outcomes import Outcome
from tools.corruption.readers import Reader, Values

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_SHARE = 6  # cases of each attack


def test_readers_of_the_format_refuse_or_agree(tmp_path: Path) -> None:
    """Damage is noticed (promise 6 of SECURITY.md), and ends in one typed error (promise 9 of SECURITY.md)."""
    names = []
    for attack in attacks(tmp_path, ["bhk"], large=False):
        tally = run(attack, tmp_path / "case", _SHARE)
        names.append(attack.name)
        assert not tally.failures
        for reader, counts in tally.counts.items():
            assert counts.total() > 2, (attack.name, reader)
            assert attack.forged or counts[Outcome.REFUSED] > 0.9 * counts.total()
    assert names == [*DAMAGE, *FORGED]


@pytest.mark.parametrize("format", ["safetensors", "gguf"])
def test_peers_are_attacked_likewise(format: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(format) is None:
        pytest.skip(f"needs {format}")
    found = list(attacks(tmp_path, [format], large=False))
    assert [attack.name for attack in found] == [*DAMAGE, "values in header fields"]
    tally = run(found[0], tmp_path / "case", _SHARE)
    (counts,) = tally.counts.values()
    assert counts[Outcome.CHANGED] > 0  # it has no hashes


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_changes_the_file(name: str) -> None:
    target = Target("file", bytes(range(200)), bytes(200), ((10, 40),))
    made = [(case, make()) for case, make in DAMAGE[name](target)]
    assert len({case for case, _ in made}) > 1
    assert sum(data != target.data for _, data in made) > 0.9 * len(made)
    assert made == [(case, make()) for case, make in DAMAGE[name](target)]


class _RefusalError(Exception):
    """What the reader below refuses files with."""


def _read(path: Path) -> Values:
    """Do what a file says."""
    word = path.read_bytes()
    if word == b"crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    while word == b"hang":
        pass
    if word == b"memory":
        np.ones(1 << 24)
    if word == b"error":
        raise IndexError(word)
    if word == b"refuse":
        raise _RefusalError(word)
    return {"values": ("U8", (4,), word)}


def test_the_watch_names_what_a_reader_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CPU_SECONDS", 0.3)
    good: Values = {"values": ("U8", (4,), b"good")}
    words = [b"good", b"crash", b"other", b"hang", b"memory", None, b"error", b"refuse", b"crash"]
    reader = Reader("reader", _read, (_RefusalError,))
    tally = watch.watched(
        lambda: ((str(word), lambda word=word: word, good) for word in words), [reader], tmp_path / "x"
    )
    assert [(name, outcome.name) for name, _, outcome in tally.failures] == [
        ("b'crash'", "CRASHED"),
        ("b'other'", "CHANGED"),
        ("b'hang'", "HUNG"),
        ("b'memory'", "MEMORY"),
        ("b'error'", "OTHER_ERROR"),
        ("b'crash'", "CRASHED"),
    ]
    assert tally.counts["reader"].total() == 8
    assert (tally.counts["reader"][Outcome.EQUAL], tally.counts["reader"][Outcome.REFUSED]) == (1, 1)


def test_readers_that_disagree_are_named(tmp_path: Path) -> None:
    strict = Reader("strict", _read, (_RefusalError,))
    lax = Reader("lax", lambda _: {"values": ("U8", (4,), b"good")}, (_RefusalError,))
    cases = [(word.decode(), lambda word=word: word, None) for word in (b"good", b"refuse", b"other")]
    tally = watch.watched(lambda: cases, [strict, lax], tmp_path / "x")
    assert tally.failures == [("refuse", "lax", Outcome.DIFFERS), ("other", "lax", Outcome.DIFFERS)]
    assert tally.counts["strict"] == {Outcome.ACCEPTED: 2, Outcome.REFUSED: 1}


def test_results_are_a_line_for_each_reader(tmp_path: Path) -> None:
    attack = next(attacks(tmp_path, ["safetensors"], large=False))
    tally = run(attack, tmp_path / "case", 5)
    table: dict[tuple[str, ...], Row] = {}
    add(table, rows(attack, tally))
    save(table, tmp_path / "results.csv")
    head, line = (tmp_path / "results.csv").read_text().splitlines()
    assert head.startswith("format,reader,attack,forged,cases,refused")
    assert line.startswith("safetensors,safetensors,single bits flipped,0,")
    assert read(tmp_path / "results.csv") == {("safetensors", "safetensors", attack.name): ANY}
    again = read(tmp_path / "results.csv")
    add(again, rows(attack, tally))
    assert [row["cases"] for row in again.values()] == [2 * tally.counts["safetensors"].total()]


def test_only_small_files_may_be_damaged(tmp_path: Path) -> None:
    every = next(attacks(tmp_path, ["bhk"], large=False))
    small = next(attacks(tmp_path, ["bhk"], large=False, largest=200))
    assert sum(1 for _ in small.cases()) == 2 * 8 * 128  # two files of a preamble and a header
    assert sum(1 for _ in every.cases()) > 100_000
