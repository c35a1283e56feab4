"""Attack readers with damaged and hostile files, and count what they do.

    python -m tools.corruption [--out FILE.csv] [--formats bhk safetensors gguf] [--most N] [--keep FOLDER]
    python -m tools.corruption --formats bhk --only 'single bits flipped' --largest 1000 --add

All cases take hours. Exits with 1 if a reader of `.bhk` files did what no reader should do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from tools.corruption.matrix import Attack, add, attacks, read, rows, run, save
from tools.corruption.watch import Tally

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "corruption.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="the CSV file with the counts")
    parser.add_argument("--formats", nargs="+", default=["bhk", "safetensors", "gguf"])
    parser.add_argument("--most", type=int, help="run about so many cases of each attack only")
    parser.add_argument("--keep", type=Path, help="keep the files of failures of readers of .bhk files in this folder")
    parser.add_argument("--only", default="", metavar="TEXT", help="attacks whose name contains this")
    parser.add_argument("--largest", type=int, metavar="BYTES", help="attack files of up to so many bytes only")
    parser.add_argument("--add", action="store_true", help="add the counts to those that the CSV file has")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = read(options.out) if options.add else {}
    failed = False
    with tempfile.TemporaryDirectory(dir=_memory()) as scratch:
        for attack in attacks(Path(scratch), options.formats, largest=options.largest):
            if options.only not in attack.name:
                continue
            started = time.monotonic()
            tally = run(attack, Path(scratch) / "case", options.most)
            add(found, rows(attack, tally))
            save(found, options.out)
            cases = sum(next(iter(tally.counts.values())).values())
            print(f"{attack.format}: {attack.name}: {cases:,} cases in {time.monotonic() - started:.0f} s", flush=True)
            if attack.format == "bhk" and tally.failures:
                failed = True
                _report(attack, tally, options.keep)
    sys.exit(failed)


def _memory() -> str | None:
    """Return a folder in memory, where there is one: a file is written for each case."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _report(attack: Attack, tally: Tally, keep: Path | None) -> None:
    for name, reader, outcome in tally.failures[:20]:
        print(f"    {name}: {reader}: {outcome.name.lower()}")
    if keep is None:
        return
    keep.mkdir(parents=True, exist_ok=True)
    names = {name for name, _, _ in tally.failures[:20]}
    for number, (name, make, _) in enumerate(attack.cases()):
        if name in names:
            data = make()
            assert data is not None
            (keep / f"{attack.name.replace(' ', '_')}-{number}.bhk").write_bytes(data)


if __name__ == "__main__":
    main()
