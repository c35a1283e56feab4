"""Command lines in forked processes, whose memory, file size and single operations can be made to fail."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
# Kinds of operations, in the order of faults.c.
KINDS = (
    "open",
    "create",
    "read",
    "write",
    "sync",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "chmod",
    "close",
    "map",
    "thread",
)
SHORT, KILL = -1, -2  # half of the data is read or written; the process is killed
_FOREVER = 1 << 62


@dataclass(frozen=True)
class Fault:
    """Operations that fail.

    Attributes:
        kinds: of operations that count; see `KINDS`.
        action: an error number of the system, `SHORT` or `KILL`.
        at: number of the first operation that fails, from 1 on; 0 for none, which only counts.
        stays: whether all later ones fail, too, as on a full disk.
    """

    kinds: tuple[str, ...]
    action: int = 0
    at: int = 0
    stays: bool = False

    @property
    def arguments(self) -> tuple[int, int, int, int]:
        """The arguments of `fault_arm` in faults.c after the folder."""
        mask = sum(1 << KINDS.index(kind) for kind in self.kinds)
        return mask, self.at or _FOREVER, _FOREVER if self.stays else self.at, self.action


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit status (negative for a signal), its output, and its operations of each of `KINDS`."""

    status: int
    out: str
    err: str
    operations: tuple[int, ...] = ()

    @property
    def document(self) -> Any:
        """The output of a command with --json, which must be one JSON document and nothing else."""
        assert (self.status, self.err) == (0, "")
        return json.loads(self.out)


def can_fault() -> bool:
    """Return whether single operations can be made to fail here, which needs Linux and a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def python_environment() -> dict[str, str]:
    """Return the environment of a Python that has this `bhk`, and prints the same everywhere."""
    return {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "COLUMNS": ""}


@contextlib.contextmanager
def fork_server(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that forks those of `Shell`; files of its own lie in the folder `scratch`."""
    environment = python_environment()
    if can_fault():
        library = scratch / "faults.so"
        flags = ("-O1", "-shared", "-fPIC", "-Wall", "-Werror")
        subprocess.run(["cc", *flags, "-o", library, _HERE / "faults.c", "-ldl", "-pthread"], check=True)
        environment["LD_PRELOAD"] = str(library)
    with subprocess.Popen(
        [sys.executable, _HERE / "server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        yield server
        assert server.stdin is not None
        server.stdin.close()


class Shell:
    """Runs `bhk` in separate processes, one at a time; see server.py. Several shells may share a server.

    Args:
        server: a `fork_server`.
        folder: the working folder of the processes.
        output: a folder for what they print.

    Attributes:
        folder: the working folder of the processes.
    """

    def __init__(self, server: subprocess.Popen[str], folder: Path, output: Path) -> None:
        self._server, self.folder, self._output = server, folder, output
        self._process = 0

    def start(
        self,
        *args: object,
        stdout: Path | None = None,
        stderr: Path | None = None,
        environment: dict[str, str] | None = None,
        file_size: int | None = None,
        memory: int | None = None,
        fault: Fault | None = None,
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
            "fault": fault and fault.arguments,
        }
        (self._process,) = self._answer("started", call)
        return self._process

    def interrupt(self, process: int, number: signal.Signals) -> None:
        """Send a signal to a process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def wait(self) -> Ended:
        """Wait for the process to end."""
        status, *operations = self._answer("ended", {"wait": self._process})
        out, err = ((self._output / name).read_text("utf-8") for name in ("out", "err"))
        return Ended(status, out, err, tuple(operations))

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

    def _answer(self, expected: str, call: Mapping[str, object]) -> list[int]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        what, *numbers = self._server.stdout.readline().split()
        assert what == expected
        return [int(number) for number in numbers]
