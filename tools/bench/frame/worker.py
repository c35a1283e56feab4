"""Objects in processes of their own, which take turns: no runtime disturbs another's threads, and each has its own memory.

with Worker(Runner, "SAM-B") as runner:
    runner.encode(image)  # calls Runner("SAM-B").encode(image) there
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from tools.bench.frame.benchmark import one_line
from tools.bench.frame.process import ProcessError


class Worker:
    """An object in a fresh process, where torch has as many threads as here. Methods take and return what can be pickled.

    Raises:
        ProcessError: what was called failed there, or the process ended.
    """

    def __init__(self, make: Callable[..., Any], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, torch.get_num_threads(), make, arguments), daemon=True
        )
        self._process.start()
        there.close()
        try:
            self._answer()
        except ProcessError:
            self.close()
            raise

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*arguments: object) -> Any:
            with contextlib.suppress(BrokenPipeError):  # then there is no answer
                self._pipe.send((method, arguments))
            return self._answer()

        return call

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        try:
            value, error = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ProcessError(f"its process ended with code {self._process.exitcode}") from None
        if error:
            raise ProcessError(error)
        return value


def _serve(pipe: Connection, threads: int, make: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(threads)
    made: list[Any] = []
    pipe.send(_attempt(lambda: made.append(make(*arguments)), ()))
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:  # the other end was closed
            return
        pipe.send(_attempt(getattr(made[0], method), arguments))


def _attempt(call: Callable[..., Any], arguments: tuple[object, ...]) -> tuple[Any, str]:
    """Return what a call returns, or in a line why it failed."""
    try:
        return call(*arguments), ""
    except Exception as error:  # the caller decides what becomes of it
        return None, one_line(error)
