"""Whatever operation fails, files are old or new, and a command ends in one line (promises 8 and 9 of SECURITY.md).

`make faults` lets every operation of every command fail; here are some of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from cli.conftest import Shell
from cli.conftest import converted as converted
from cli.conftest import source as source

from tools.faults import large, load
from tools.faults.cases import CASES, OLD, Workshop
from tools.faults.disturbances import CHANGES, change_source, kill, limit_memory
from tools.faults.operations import ATTACKS, attack, spread
from tools.faults.target import Target
from tools.faults.verdict import Expected, Left
from tools.faults.writers import Pair, Writers
from tools.forked.shell import KILL, KINDS, Ended, Fault, can_fault

_WITH_FAULTS = pytest.mark.skipif(not can_fault(), reason="operations are made to fail on Linux, with a C compiler")
_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="open files are counted on Linux")
_TRIED = {
    "convert --force": ("disk full", "read error", "fsync", "rename", "no thread from", "killed"),
    "export shards": ("disk full", "rename", "no links", "remove", "killed"),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("faults") / "shop")
    yield made
    made.close()


@pytest.fixture
def server(_server: subprocess.Popen[str]) -> subprocess.Popen[str]:
    return _server


@_WITH_FAULTS
@pytest.mark.parametrize("name", _TRIED)
def test_files_are_old_or_new(shop: Workshop, server: subprocess.Popen[str], name: str) -> None:
    target = Target(shop, Shell(server, shop.place, shop.output), next(case for case in CASES if case.name == name))
    ended = set()
    for one in ATTACKS:
        if one.name.startswith(_TRIED[name]):
            tally = attack(target, one, 2)
            assert not tally.examples, (one.name, tally.examples)
            ended |= set(tally.outcomes)
    assert ended == {"equal", "refused"}  # some faults are overcome, and some are not


@_WITH_FAULTS
def test_disturbed_commands_leave_old_files_or_new(shop: Workshop, server: subprocess.Popen[str]) -> None:
    case = next(case for case in CASES if case.name == "convert --force")
    target = Target(shop, Shell(server, shop.place, shop.output), replace(case, changing="a.pth"))
    tallies = [
        kill(target, 4, Random(1)),
        *(change_source(target, change, 2, Random(2)) for change in CHANGES.values()),
        limit_memory(target, 1 << 20, 1 << 30, 32.0),
    ]
    assert not [tally.examples for tally in tallies if tally.examples]
    assert sum(tally.outcomes["refused"] for tally in tallies) > 0


@_WITH_FAULTS
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_two_writers(shop: Workshop, server: subprocess.Popen[str], force: tuple[str, ...]) -> None:
    sources = ("a.pth", "a.safetensors")
    pair = Pair("convert", tuple(("convert", source, "-o", "out.bhk", *force) for source in sources), sources)
    shells = [Shell(server, shop.place, shop.output / place) for place in ("", "second")]
    tally = Writers(shop, shells, pair).run(4, Random(1))
    assert not tally.examples
    assert force or tally.outcomes == {"refused": 4}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("args", [("models", "--json"), ("inspect", "none.bhk", "--json"), ("models",)])
def test_a_full_stdout_is_one_line(bhk: Shell, args: tuple[str, ...]) -> None:
    ended = bhk(*args, stdout=Path("/dev/full"))
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert ended.err.startswith("error: ")


def test_operations_are_spread_evenly() -> None:
    assert list(spread(3, 5)) == [1, 2, 3]
    assert list(spread(101, 3)) == [1, 51, 101]
    assert list(spread(0, 3)) == []
    assert list(spread(9, 1)) == [5]


@pytest.mark.parametrize(
    ("files", "ended", "outcome"),
    [
        ({"a": b"new"}, Ended(0, "done 7", ""), "equal"),
        ({"a": b"new"}, Ended(0, "do", ""), "silent"),
        ({"a": OLD}, Ended(1, "", "error: no space\n"), "refused"),
        ({"a": OLD}, Ended(0, "done 7", ""), "silent"),
        ({"a": OLD}, Ended(1, "", "Traceback\nOSError\n"), "crashed"),
        ({"a": OLD}, Ended(-11, "", ""), "crashed"),
        ({"a": b"ne"}, Ended(1, "", "error: no space\n"), "silent"),
        ({"a": b"new", ".a.tmp": b""}, Ended(0, "done 7", ""), "silent"),
        ({}, Ended(1, "", "error: no space\n"), "silent"),
    ],
)
def test_verdicts(files: dict[str, bytes | None], ended: Ended, outcome: str) -> None:
    undisturbed = Left({"a": b"new"}, Ended(0, "done 7", ""))
    expected = Expected(CASES[0], {"a": OLD}, (undisturbed, undisturbed))
    assert expected.outcome(Left(files, ended))[0] == outcome
    assert expected.outcome(Left(files, ended), hung=True)[0] == "hung"


@_WITH_FAULTS
def test_operations_are_counted(bhk: Shell) -> None:
    assert bhk("models", fault=Fault(())).operations[KINDS.index("write")] > 0
    assert bhk("models", fault=Fault(("write",), KILL, 1)).status == -9


@_LINUX
def test_many_loads_leave_nothing_behind(converted: Path) -> None:
    load.many_loads(converted, 20)  # which imports what is needed
    assert load.many_loads(converted, 50)["files_growth"] == 0
    assert load.many_threads(converted, 16) == {"cases": 16, "wrong": 0}


def test_many_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "LAYERS", 300)
    large.make_layers(tmp_path)
    for measure in (large.convert_layers, large.inspect_layers, large.verify_layers):
        assert measure(tmp_path) == (300, 0)
    assert large.load_one_layer(tmp_path) == (1, 0)


def test_a_large_container(tmp_path: Path) -> None:
    large.make_container(tmp_path, 1_000_000, side=128)
    assert (tmp_path / "container.bhk").stat().st_size == pytest.approx(1_000_000, rel=0.1)
    assert large.open_container(tmp_path) == (1, 0)
    cases, wrong = large.slice_container(tmp_path)
    assert cases > 10
    assert wrong == 0


def test_a_large_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "BLOCK", ((64, 64), (96, 64)))
    monkeypatch.setattr(large, "limit_data", lambda: None)
    large.make_checkpoint(tmp_path, 1_000_000)
    cases, wrong = large.convert_checkpoint(tmp_path)
    assert cases == 2 * (1_000_000 // (4 * 160 * 64))
    assert (wrong, large.verify_checkpoint(tmp_path)) == (0, (cases, 0))
