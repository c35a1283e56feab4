"""Files that are cut off, damaged, foreign or hostile, given to every command: one line on stderr, and nothing written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import bhk as package
from cli.conftest import Shell

_COMMANDS = {
    "convert": ["convert", "{}", "-o", "new.bhk"],
    "inspect": ["inspect", "{}"],
    "verify": ["verify", "{}"],
    "verify against it": ["verify", "sam.bhk", "--against", "{}"],
    "export": ["export", "{}", "-o", "new.pth"],
    "diff": ["diff", "{}", "sam.bhk"],
    "diff with it": ["diff", "sam.bhk", "{}", "--json"],
}
_FOREIGN = {
    "empty": b"",
    "text": b"These are not the weights you are looking for.\n",
    "magic alone": b"\x89BHK\r\n\x1a\n",
}


def _command(which: str, name: str) -> list[str]:
    return [arg.format(name) for arg in _COMMANDS[which]]


@pytest.fixture(autouse=True)
def _sound(converted: Path) -> None:
    """sam.pth and sam.bhk."""


def _assert_untouched(bhk: Shell, *names: str) -> None:
    assert {path.name for path in bhk.folder.iterdir()} == {"sam.pth", "sam.bhk", *names}


@pytest.mark.parametrize("which", _COMMANDS)
def test_a_foreign_file(bhk: Shell, which: str) -> None:
    for kind, data in _FOREIGN.items():
        (bhk.folder / "foreign").write_bytes(data)
        assert "foreign" in bhk.fails(*_command(which, "foreign")), kind
    (bhk.folder / "foreign").unlink()
    (bhk.folder / "foreign").mkdir()
    assert "foreign" in bhk.fails(*_command(which, "foreign"))
    (bhk.folder / "foreign").rmdir()
    assert "foreign" in bhk.fails(*_command(which, "foreign"))
    _assert_untouched(bhk)


@pytest.mark.parametrize("which", [which for which in _COMMANDS if which != "convert"])
def test_a_bhk_file_that_is_cut_off(bhk: Shell, which: str) -> None:
    data = (bhk.folder / "sam.bhk").read_bytes()
    for length in (20, len(data) // 2, len(data) - 1):
        (bhk.folder / "cut.bhk").write_bytes(data[:length])
        assert "cut.bhk" in bhk.fails(*_command(which, "cut.bhk"))
    (bhk.folder / "cut.bhk").write_bytes(data + b"\0")
    assert "followed by other bytes" in bhk.fails(*_command(which, "cut.bhk"))
    _assert_untouched(bhk, "cut.bhk")


@pytest.mark.parametrize("which", [which for which in _COMMANDS if which != "convert"])
def test_a_bhk_file_with_a_flipped_bit(bhk: Shell, which: str) -> None:
    data = (bhk.folder / "sam.bhk").read_bytes()
    for place in (20, 500, len(data) - 5):
        damaged = bytearray(data)
        damaged[place] ^= 4
        (bhk.folder / "flipped.bhk").write_bytes(damaged)
        if which == "inspect" and place == len(data) - 5:
            assert bhk(*_command(which, "flipped.bhk")).status == 0  # it reads the header only
        else:
            assert "[rule " in bhk.fails(*_command(which, "flipped.bhk"))
    _assert_untouched(bhk, "flipped.bhk")


@pytest.mark.parametrize("name", ["sam.pth", "sam.safetensors"])
@pytest.mark.parametrize("which", ["convert", "verify against it", "diff"])
def test_a_checkpoint_that_is_cut_off(bhk: Shell, which: str, name: str) -> None:
    if name == "sam.safetensors":
        package.export(bhk.folder / "sam.bhk", bhk.folder / name)
    data = (bhk.folder / name).read_bytes()
    for length in (30, len(data) - 1):
        (bhk.folder / "cut.pth").write_bytes(data[:length])
        assert "cut.pth" in bhk.fails(*_command(which, "cut.pth"))
    _assert_untouched(bhk, "cut.pth", name)


class _Trap:
    """Creates a folder when something unpickles it and runs its code."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("which", ["convert", "verify against it", "diff", "diff with it"])
def test_a_pickle_that_would_run_code_is_refused(bhk: Shell, which: str) -> None:
    proof = bhk.folder / "executed"
    for legacy in (False, True):
        content = {"model": {"a": torch.zeros(2)}, "args": _Trap(proof)}
        torch.save(content, bhk.folder / "evil.pth", _use_new_zipfile_serialization=not legacy)
        message = bhk.fails(*_command(which, "evil.pth"))
        assert f"evil.pth needs {os.mkdir.__module__}.mkdir, which may run code" in message
    _assert_untouched(bhk, "evil.pth")
    torch.load(bhk.folder / "evil.pth", weights_only=False)
    assert proof.exists()  # the trap was a true one
