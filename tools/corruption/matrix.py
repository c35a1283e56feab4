"""All attacks on all files, and what their readers did."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from tools.corruption import forged_headers, forged_peers, forged_streams, targets
from tools.corruption.attacks import DAMAGE, Cases, Target
from tools.corruption.outcomes import Outcome
from tools.corruption.readers import Reader, Values, ours, peers, third
from tools.corruption.watch import Case, Tally, watched

FORGED = {
    "values in header fields": forged_headers.fields,
    "numbers in the preamble": forged_headers.preambles,
    "data of other streams": forged_streams.spliced,
    "frames flipped and cut": forged_streams.frames_changed,
    "frames of headers flipped and cut": forged_streams.header_frames_changed,
    "frames that lie": forged_streams.frames_that_lie,
    "bombs": forged_streams.bombs,
    "codes out of range": forged_streams.codes_out_of_range,
}
FORGED_PEERS = {"safetensors": forged_peers.safetensors_fields, "gguf": forged_peers.gguf_fields}


@dataclass(frozen=True)
class Attack:
    """An attack on the files of a format.

    Attributes:
        format: "bhk", "safetensors" or "gguf".
        name: what is done.
        forged: whether hashes are set right, so that the file may say something else.
        readers: what reads the files.
        cases: makes the cases.
    """

    format: str
    name: str
    forged: bool
    readers: Sequence[Reader]
    cases: Callable[[], Iterable[Case]]


def attacks(
    folder: Path, formats: Sequence[str], *, large: bool = True, largest: int | None = None
) -> Iterator[Attack]:
    """Yield the attacks on files of some formats.

    Args:
        folder: where the files are made.
        formats: "bhk", "safetensors", "gguf".
        large: whether a large file is damaged, too.
        largest: most bytes of the files of the format that are damaged; None: any.
    """
    if "bhk" in formats:
        made = targets.of_the_format(folder, large=large)
        found = [target for target in made if largest is None or len(target.data) <= largest]
        readers = (*ours(), *third())
        yield from _damage("bhk", found, readers, folder)
        for name, make in FORGED.items():
            yield Attack("bhk", name, True, readers, partial(_forged, make))
    for name, make_targets in (("safetensors", targets.of_safetensors), ("gguf", targets.of_gguf)):
        if name in formats:
            reader, found = peers()[name], make_targets(folder, large=large)
            yield from _damage(name, found, (reader,), folder)
            field = partial(FORGED_PEERS[name], found[0])
            yield Attack(name, "values in header fields", True, (reader,), partial(_forged, field))


def _damage(format: str, found: list[Target], readers: Sequence[Reader], folder: Path) -> Iterator[Attack]:
    expected = {}
    for target in found:
        (folder / "sound").write_bytes(target.data)
        expected[target.name] = readers[0].read(folder / "sound")
    for name, damage in DAMAGE.items():
        yield Attack(format, name, False, readers, partial(_damaged, damage, found, expected))


def _damaged(damage: Callable[[Target], Cases], found: list[Target], expected: dict[str, Values]) -> Iterator[Case]:
    for target in found:
        for name, make in damage(target):
            yield f"{target.name}: {name}", partial(_unless_sound, make, target.data), expected[target.name]


def _unless_sound(make: Callable[[], bytes | None], sound: bytes) -> bytes | None:
    data = make()
    return None if data == sound else data


def _forged(make: Callable[[], Cases]) -> Iterator[Case]:
    for name, file in make():
        yield name, file, None


def run(attack: Attack, file: Path, most: int | None = None) -> Tally:
    """Return what readers do with the cases of an attack, or with about `most` of them, spread evenly."""
    count = sum(1 for _ in attack.cases())
    every = 1 if most is None else max(count // most, 1)
    return watched(lambda: islice(attack.cases(), every // 2, None, every), attack.readers, file)


COLUMNS = ("format", "reader", "attack", "forged", "cases", *(outcome.name.lower() for outcome in Outcome))


Row = dict[str, str | int]


def rows(attack: Attack, tally: Tally) -> Iterator[Row]:
    """Yield a row of results for each reader."""
    for reader, counts in tally.counts.items():
        found = {outcome.name.lower(): counts[outcome] for outcome in Outcome}
        labels = {"format": attack.format, "reader": reader, "attack": attack.name, "forged": int(attack.forged)}
        yield {**labels, "cases": counts.total(), **found}


def add(table: dict[tuple[str, ...], Row], found: Iterable[Row]) -> None:
    """Add rows to a table, which has them by format, reader and attack. Counts of the same ones are added up."""
    for row in found:
        key = tuple(str(row[name]) for name in COLUMNS[:3])
        old = table.get(key, {})
        table[key] = row | {name: int(old.get(name, 0)) + int(row[name]) for name in COLUMNS[4:]}


def save(table: Mapping[tuple[str, ...], Row], path: Path) -> None:
    """Write the results as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table.values())


def read(path: Path) -> dict[tuple[str, ...], Row]:
    """Return the results that `save` wrote."""
    found: dict[tuple[str, ...], Row] = {}
    with path.open(newline="") as file:
        add(found, [{**row} for row in csv.DictReader(file)])
    return found
