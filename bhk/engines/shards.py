"""Long work in shards: computed by an engine, saved shard by shard, and continued after an interruption."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias

from bhk.base.errors import listed, option
from bhk.base.texts import counted
from bhk.base.workdir import WorkDir
from bhk.engines.engine import Engine, Result, Shard
from bhk.engines.errors import MissingResultsError, WorkerError
from bhk.engines.parts import Part
from bhk.engines.processes import Processes

Advance: TypeAlias = Callable[[int, int], None]  # called with (shards done, all shards)

_PARTS = "parts.json"  # into how many parts the work was divided last


def split(items: Sequence[Shard], size: int) -> list[tuple[Shard, ...]]:
    """Return the items in shards of `size`; the last one may be smaller."""
    return [tuple(items[start : start + size]) for start in range(0, len(items), size)]


@dataclass(frozen=True)
class KeptResults(Collection[Result], Generic[Result]):
    """The results in a folder, in order. None stays in memory: each is read whenever they are gone through.

    Attributes:
        store: the folder.
        type: of the results.
        count: how many there are.
    """

    store: WorkDir
    type: type[Result]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Result]:
        for index in range(self.count):
            found = self.store.read(_name(index), self.type)
            if found is None:
                raise MissingResultsError(f"{self.store.folder} no longer holds {_name(index)}, the result of a shard")
            yield found

    def __contains__(self, result: object) -> bool:
        return any(found == result for found in self)


def run_shards(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    result: type[Result],
    *,
    engine: Engine | None = Processes(1),
    work_dir: Path | None = None,
    fingerprint: Mapping[str, str],
    advance: Advance | None = None,
) -> Collection[Result]:
    """Return `work(shard)` for every shard, in order. With a folder, they are only read when they are gone through.

    Args:
        work: a function whose result depends only on the shard.
        shards: the work.
        result: the type of the results, which msgspec writes as JSON and reads back.
        engine: what computes them; None computes nothing, so that all results must be in `work_dir`.
        work_dir: a folder that keeps the result of each shard; finished shards are not computed again. Created if missing.
        fingerprint: everything the results depend on; a folder with another fingerprint is refused.
        advance: called with (shards done, all shards).

    Raises:
        MissingResultsError: there is no engine, and results are missing.
        WorkDirError: the folder holds results of other work, or one that cannot be read.
        WorkerError: a worker failed; it carries the message of the error. With one process, errors of `work` pass through.
        WriteError: the folder cannot be written.
    """
    store = None if work_dir is None else _claimed(work_dir, fingerprint, merging=engine is None)
    # Reading what is there tells at once, and not after the work, if it is damaged. A merge reads it anyway.
    missing = [
        index
        for index in range(len(shards))
        if store is None
        or (store.read(_name(index), result) is None if engine is not None else not store.has(_name(index)))
    ]
    if missing and engine is None:
        raise MissingResultsError(_missing(store, missing, len(shards)))
    computed = _compute(engine or Processes(1), work, shards, missing, store, len(shards), advance)
    if store is None:
        results = dict(computed)
        return [results[index] for index in range(len(shards))]
    for _ in computed:
        pass
    return KeptResults(store, result, len(shards))


def run_part(
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    part: Part,
    *,
    engine: Engine,
    work_dir: Path,
    fingerprint: Mapping[str, str],
    advance: Advance | None = None,
) -> range:
    """Compute the shards of one part into a folder that all parts share, and return their indices. None stays in memory.

    Shards that are there already are not computed again. For the other arguments and the errors, see `run_shards`.
    """
    store = _claimed(work_dir, fingerprint)
    store.write(_PARTS, part.count)
    mine = part.share(len(shards))
    missing = [index for index in mine if not store.has(_name(index))]
    for _ in _compute(engine, work, shards, missing, store, len(mine), advance):
        pass
    return mine


def _claimed(folder: Path, fingerprint: Mapping[str, str], *, merging: bool = False) -> WorkDir:
    store = WorkDir(folder)
    if merging and not store.is_claimed:
        raise MissingResultsError(
            f"{folder} holds no results to merge; run the parts with this {option('work_dir')} first"
        )
    store.claim(fingerprint)
    return store


def _compute(
    engine: Engine,
    work: Callable[[Shard], Result],
    shards: Sequence[Shard],
    missing: Sequence[int],
    store: WorkDir | None,
    total: int,
    advance: Advance | None,
) -> Iterator[tuple[int, Result]]:
    """Compute the missing shards of `total`, keep each result in `store`, and yield it."""
    advance = advance or (lambda done, total: None)
    advance(total - len(missing), total)
    with contextlib.closing(engine.compute(work, shards, missing)) as computed:
        for count, (index, found) in enumerate(computed, 1):
            if isinstance(found, WorkerError):
                raise found
            if store:
                store.write(_name(index), found)
            yield index, found
            advance(total - len(missing) + count, total)


def _missing(store: WorkDir | None, missing: Sequence[int], total: int) -> str:
    """Say which results are missing, and which parts they belong to."""
    if store is None:
        return f"there is nothing to merge without a folder of results; give {option('work_dir')}"
    count = store.read(_PARTS, int)
    parts = sorted({str(Part.of(index, total, count)) for index in missing}) if count else ()
    those = f", those of {listed(parts)}; run these parts again" if parts else "; run it again to compute them"
    return f"{store.folder} lacks {len(missing)} of {counted(total, 'shard')}{those}"


def _name(index: int) -> str:
    return f"shard-{index:06d}.json"
