"""A Ray cluster: https://docs.ray.io, "Ray Core".

Ray starts a lost worker again, on another node if need be, and gives it its shard anew; a shard is a pure function, so what
was lost on the way does not show in the results.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import platform
import re
import socket
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from bhk.base.errors import BhkError, OptionError, option
from bhk.base.packages import Package, import_package
from bhk.engines.engine import Result, Shard
from bhk.engines.errors import ClusterError, WorkerError
from bhk.version import __version__

_PACKAGE = Package("ray", "run: pip install ray")
_RETRIES = 3  # of a shard whose worker fails or is lost
_PATIENCE = 10  # seconds until an address that does not answer is given up


@dataclass(frozen=True)
class Ray:
    """Workers on a Ray cluster, in place of processes of this machine. Needs the package ray, here and on all nodes.

    Each worker has one CPU, and loads the models once. A shard that fails, or whose worker is lost, is tried three times more.
    All nodes need the same versions of bhk, torch, numpy and Python, and the folder in which this process works, with the
    models and the pictures.

    >>> import bhk
    >>> bhk.Ray("10.0.0.1:6379", workers=64, gpus=0.25)
    Ray(address='10.0.0.1:6379', workers=64, gpus=0.25)

    Attributes:
        address: the cluster: "host:port", "ray://host:port" or "auto". None: that of the variable RAY_ADDRESS, or one on this
            machine, which is started if there is none.
        workers: how many; None for one per CPU of the cluster, or as many as its GPUs have room for.
        gpus: the share of a GPU that each worker gets; 0 for none. On a CUDA device, evaluations then ask for 1.

    Raises:
        OptionError: a number is out of range.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"cannot work with {self.workers} workers on Ray; give 1 or more")
        if not (self.gpus == 0 or 0 < self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())):
            raise OptionError(f"a worker cannot have {self.gpus:g} GPUs; give a share up to 1, or a whole number")

    def compute(
        self, work: Callable[[Shard], Result], shards: Sequence[Shard], wanted: Sequence[int]
    ) -> Generator[tuple[int, Result | WorkerError], None, None]:
        """See `bhk.engines.engine.Engine`.

        Raises:
            ClusterError: the cluster cannot be reached, or its nodes lack something.
            MissingPackageError: Ray is not installed.
        """
        if not wanted:
            return
        ray = import_package([_PACKAGE])
        with _connected(ray, self.address):
            room = _room(ray, self.gpus)
            count = min(self.workers or room, len(wanted))
            yield from _by_actors(ray, work, shards, wanted, count, self.gpus)


@contextlib.contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Connect with a cluster while the block runs, unless this process already is.

    Raises:
        ClusterError: that fails.
    """
    if ray.is_initialized():
        yield
        return
    named = address or os.environ.get("RAY_ADDRESS")
    _check_reachable(named)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray prints that it reports its use
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there what happens to workers
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises ConnectionError, RuntimeError, ValueError, ...
            where = named or "of this machine"
            raise ClusterError(f"cannot connect with the Ray cluster {where}: {_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Check that something answers at an address, for which Ray would wait a minute.

    Raises:
        ClusterError: nothing does.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({getattr(error, 'strerror', None) or error}); "
            f"check {option('address')}, or start one there with `ray start --head`"
        ) from error


def _room(ray: Any, gpus: float) -> int:
    """Return how many workers with that share of a GPU the cluster has room for.

    Raises:
        ClusterError: not for one.
    """
    found = ray.cluster_resources()
    room = int(found.get("CPU", 0))
    if gpus:
        each = found.get("GPU", 0)
        room = min(room, int(each) * math.floor(1 / gpus) if gpus < 1 else int(each // gpus))
    if room < 1:
        wanted = f"1 CPU and {gpus:g} of a GPU" if gpus else "1 CPU"
        has = f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
        raise ClusterError(f"the Ray cluster has {has}; each worker needs {wanted}")
    return room


class _Worker:
    """Computes shards in a process of the cluster; `work` is pickled, because it needs the right version of bhk.

    A worker that was lost is made anew, perhaps on another node, and goes on with its shard without being asked if it is ready.
    """

    def __init__(self, work: bytes, folder: str, versions: dict[str, str]) -> None:
        self._pickled, self._wanted = work, versions
        self._work: Callable[[object], object] | None = None
        self._fault: str | None = None
        torch.set_num_threads(1)
        try:
            os.chdir(folder)
        except OSError as error:
            self._fault = (
                f"the node {platform.node()} lacks the folder {folder} ({error.strerror or error}); "
                "work in one that all nodes share, with the models and the pictures"
            )

    def ready(self) -> str | None:
        """Return why this node cannot compute; None if it can."""
        if self._wanted == (here := _versions()):
            return self._fault
        there, own = (
            {name: of.get(name, "") for name in here if self._wanted.get(name) != here[name]}
            for of in (here, self._wanted)
        )
        return f"{_named(there)} on the node {platform.node()}, but {_named(own)} here; install the same versions"

    def run(self, shard: object) -> object:
        """Compute a shard.

        Raises:
            WorkerError: that failed. Not every error can be pickled, so it carries a text.
        """
        if (fault := self.ready()) is not None:
            raise WorkerError(fault)
        try:
            self._work = self._work or pickle.loads(self._pickled)
            return self._work(shard)
        except BhkError as error:
            raise WorkerError(error.marked) from None
        except Exception:
            raise WorkerError(traceback.format_exc()) from None


def _by_actors(
    ray: Any,
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    wanted: Sequence[int],
    count: int,
    gpus: float,
) -> Generator[tuple[int, Result | WorkerError], None, None]:
    """Compute in `count` actors; each gets its next shard when it has returned a result.

    One that gets no more ends at once: one that was lost with its node, and has a shard left, may be waiting for its place.
    """
    remote = ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=_RETRIES)
    actors = [remote.remote(pickle.dumps(work), os.getcwd(), _versions()) for _ in range(count)]
    # A worker gets no shard before it runs: the cluster may be busy, or grow.
    starting = {actor.ready.remote(): actor for actor in actors}
    busy: dict[Any, tuple[Any, int]] = {}
    waiting, left = iter(wanted), len(wanted)
    try:
        while left:
            (done,), _ = ray.wait([*busy, *starting], num_returns=1)
            if done in starting:
                actor = starting.pop(done)
                _check_node(ray, done)
            else:
                actor, index = busy.pop(done)
                left -= 1
                yield index, _received(ray, done)
            if (following := next(waiting, None)) is not None:
                busy[actor.run.options(retry_exceptions=True).remote(shards[following])] = actor, following
            else:
                ray.kill(actor)
    finally:
        for actor in actors:
            ray.kill(actor)


def _check_node(ray: Any, started: Any) -> None:
    """Check that a worker has the versions and the folder of this process.

    Raises:
        ClusterError: it does not, or could not start.
    """
    try:
        fault = ray.get(started)
    except ray.exceptions.RayError as error:
        raise ClusterError(f"a worker cannot start on the Ray cluster: {_line(error)}") from error
    if fault is not None:
        raise ClusterError(fault)


def _received(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        return cause if type(cause) is WorkerError else WorkerError(_line(error))
    except ray.exceptions.RayError as error:
        return WorkerError(f"a worker on Ray was lost {_RETRIES + 1} times with one shard: {_line(error)}")


def _versions() -> dict[str, str]:
    """Return the versions on which results depend."""
    return {
        "bhk": __version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _line(error: Exception) -> str:
    """Return what an error of Ray says, without traceback, as one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if "Traceback" in str(error) else " ".join(lines))[:300] or type(error).__name__
