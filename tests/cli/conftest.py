from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import bhk as package
from tools.forked.shell import Ended as Ended
from tools.forked.shell import Shell as Shell
from tools.forked.shell import fork_server

_ROOT = Path(package.__file__).parent.parent


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    with fork_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def bhk(_server: subprocess.Popen[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs command lines in `tmp_path`."""
    return Shell(_server, tmp_path, tmp_path_factory.mktemp("output"))


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., list[str]]:
    """Returns the command line of a new Python process that runs `bhk` with given arguments."""

    def command(*args: object) -> list[str]:
        code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from bhk.cli.main import main; main()"
        return [sys.executable, "-c", code, *map(str, args)]

    return command


def tensors() -> dict[str, torch.Tensor]:
    """Return two coded and two exact tensors."""
    generator = torch.Generator().manual_seed(0)
    weights = {f"blocks.{i}.weight": torch.randn(48, 50, generator=generator) * 0.05 for i in (2, 10)}
    return {**weights, "blocks.2.bias": torch.randn(48, generator=generator), "steps": torch.tensor(7)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint."""
    torch.save({"model": tensors()}, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture
def converted(source: Path) -> Path:
    """A .bhk file beside its source."""
    path = package.convert(source).path
    assert path is not None
    return path
