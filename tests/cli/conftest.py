from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import bhk as package

_ROOT = Path(package.__file__).parent.parent


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit status (negative for a signal) and its output."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The output of a command with --json, which must be one JSON document and nothing else."""
        assert (self.status, self.err) == (0, "")
        return json.loads(self.out)


class Shell:
    """Runs `bhk` in separate processes; see fork_server.py.

    Attributes:
        folder: the working folder of the processes.
    """

    def __init__(self, server: subprocess.Popen[str], folder: Path, output: Path) -> None:
        self._server, self.folder, self._output = server, folder, output

    def start(
        self,
        *args: object,
        stdout: Path | None = None,
        stderr: Path | None = None,
        environment: dict[str, str] | None = None,
        file_size: int | None = None,
        memory: int | None = None,
    ) -> int:
        """Start a process and return its id. Call `wait` before starting another one."""
        for name in ("out", "err"):
            (self._output / name).write_bytes(b"")
        call = {
            "argv": [str(arg) for arg in args],
            "cwd": str(self.folder),
            "stdout": str(stdout or self._output / "out"),
            "stderr": str(stderr or self._output / "err"),
            "environment": environment or {},
            "file_size": file_size,
            "memory": memory,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        return self._answer("started")

    def interrupt(self, process: int, number: signal.Signals) -> None:
        """Send a signal to a process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def wait(self) -> Ended:
        """Wait for the process to end."""
        status = self._answer("ended")
        return Ended(status, (self._output / "out").read_text("utf-8"), (self._output / "err").read_text("utf-8"))

    def __call__(self, *args: object, **settings: Any) -> Ended:
        """Run `bhk args` and wait for it."""
        self.start(*args, **settings)
        return self.wait()

    def fails(self, *args: object, **settings: Any) -> str:
        """Run `bhk args`, which must fail with status 1 and one line on stderr, and return its message.

        With --json, the message is also the only thing on stdout.
        """
        ended = self(*args, **settings)
        assert ended.status == 1
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert ended.err.endswith("\n")
        assert ended.err[:-1].isprintable()
        message = ended.err[len("error: ") : -1]
        if "--json" in args:
            assert json.loads(ended.out)["error"]["message"] == message
        else:
            assert ended.out == ""
        return message

    def _answer(self, expected: str) -> int:
        assert self._server.stdout is not None
        what, number = self._server.stdout.readline().split()
        assert what == expected
        return int(number)


@pytest.fixture(scope="session")
def _server() -> Iterator[subprocess.Popen[str]]:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fork_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "COLUMNS": ""},
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


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
