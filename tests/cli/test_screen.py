"""What the commands print on narrow screens, in ASCII, and without a terminal."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from sam.state_dicts import shapes_of

import bhk as package
from cli.conftest import Shell

_COMMANDS = (
    ("inspect", "sam.bhk"),
    ("inspect", "sam.bhk", "--by", "block"),
    ("verify", "sam.bhk", "--against", "sam.pth"),
    ("diff", "sam.pth", "sam.bhk"),
    ("convert", "sam.pth", "-o", "other.bhk", "--force"),
    ("export", "sam.bhk", "-o", "dense.pth", "--force"),
    ("report", "sam.bhk", "--against", "sam.pth", "--force"),
    ("compare", "sam.pth", "--presets", "small"),
    ("push", "sam.bhk", "me/sam", "--license", "mit", "--dry-run"),
    ("models",),
    ("--help",),
    ("convert", "--help"),
)


@pytest.fixture(scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small checkpoint that has names of SAM-B, and its .bhk file."""
    folder = tmp_path_factory.mktemp("model")
    generator = torch.Generator().manual_seed(0)
    shapes = list(shapes_of("sam_vit_b").items())[::9]
    weights = {name: torch.randn([min(side, 48) for side in shape], generator=generator) for name, shape in shapes}
    torch.save(weights, folder / "sam.pth")
    package.convert(folder / "sam.pth")
    return folder


@pytest.fixture
def shell(bhk: Shell, _model: Path) -> Shell:
    """Runs command lines beside that model."""
    shutil.copytree(_model, bhk.folder, dirs_exist_ok=True)
    return bhk


def _names(line: str) -> bool:
    """Tell whether a line is a single word or address, which is never broken."""
    return len(line.split()) <= 1


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_every_line_fits(shell: Shell, command: tuple[str, ...], width: int) -> None:
    ended = shell(*command, environment={"COLUMNS": str(width)})
    assert ended.status == 0
    assert ended.out
    assert [line for line in ended.out.splitlines() if len(line) > width and not _names(line)] == []


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_output_is_ascii_where_only_that_can_be_shown(shell: Shell, command: tuple[str, ...]) -> None:
    full = shell(*command)
    plain = shell(*command, environment={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"})
    assert (plain.status, full.status) == (0, 0)
    assert plain.out.isascii()
    assert plain.err.isascii()
    assert plain.out.count("?") == full.out.count("?")
    assert not re.search(r"\\u\d", plain.out)


def test_what_matters_is_never_left_out(shell: Shell) -> None:
    for width in (60, 80):
        lines = shell("inspect", "sam.bhk", environment={"COLUMNS": str(width)}).out.splitlines()
        (head,) = (line for line in lines if line.startswith("tensor "))
        assert head.split()[0] == "tensor"
        assert head.endswith("ratio  SNR dB")
        assert " bytes " in head
        assert any(line.startswith(f"left out to fit {width} columns: ") for line in lines)


def test_a_pipe_gets_whole_lines(shell: Shell) -> None:
    lines = shell("inspect", "sam.bhk").out.splitlines()
    assert max(map(len, lines)) > 120
    assert not any("…" in line for line in lines)
    assert not any(line.startswith("left out to fit") for line in lines)


def test_an_unusable_width_is_ignored(shell: Shell) -> None:
    for width in ("", "0", "wide", "-3"):
        assert shell("models", environment={"COLUMNS": width}).out == shell("models").out


def test_json_is_the_same_at_any_width(shell: Shell) -> None:
    narrow = shell("inspect", "sam.bhk", "--json", environment={"COLUMNS": "40"})
    assert narrow.out == shell("inspect", "sam.bhk", "--json").out
