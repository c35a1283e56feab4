"""`python -m tools.faults.large`: many layers, a file of 20 GB, and a checkpoint of 8 GB with 2 GB of memory.

Each measure runs in a process of its own, whose memory counts from where Python and torch have it.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import msgspec
import torch
from safetensors import safe_open

import bhk
from bhk.container.reader import Container
from bhk.container.writer import ContainerWriter
from tools.bench.frame.memory import HostPeak
from tools.faults import ROOT

RESULTS = ROOT / "tools" / "bench" / "results" / "robustness_large.csv"
COLUMNS = ("measure", "cases", "wrong", "gigabytes", "cpu_seconds", "peak_mib")
Row = dict[str, object]
Measure = Callable[[Path], tuple[int, int]]  # returns the number of cases, and how many are wrong

LAYERS = 100_000
ROWS = 16  # of each slice
GIGABYTE = 10**9
LIMIT = 2 * GIGABYTE
LEAST_SNR = 10.0  # of rows, as a factor; the usual preset has more
# The layers of a block of a language model; checkpoints of it are as large as asked for.
BLOCK = (*[(4096, 4096)] * 4, *[(11008, 4096)] * 3)


def make_layers(folder: Path) -> None:
    """Write a checkpoint of many tensors of four weights each."""
    values = torch.randn(LAYERS, 4).unbind()
    torch.save({f"layer.{n}": value.clone() for n, value in enumerate(values)}, folder / "layers.pth")


def convert_layers(folder: Path) -> tuple[int, int]:
    """Convert it."""
    report = bhk.convert(folder / "layers.pth", folder / "layers.bhk")
    return LAYERS, LAYERS - len(report.layers)


def inspect_layers(folder: Path) -> tuple[int, int]:
    """List the tensors of the file."""
    return LAYERS, LAYERS - len(bhk.inspect(folder / "layers.bhk").rows)


def verify_layers(folder: Path) -> tuple[int, int]:
    """Check every byte of the file, and every tensor against the checkpoint."""
    return LAYERS, LAYERS - len(bhk.verify(folder / "layers.bhk", folder / "layers.pth").layers)


def load_one_layer(folder: Path) -> tuple[int, int]:
    """Load the last of the tensors."""
    with bhk.open(folder / "layers.bhk") as file:
        return 1, int(file.tensor(f"layer.{LAYERS - 1}").shape != (4,))


def make_container(folder: Path, size: int, side: int = 8192) -> None:
    """Write a file of a coded and an exact tensor, again and again under other names."""
    weights = torch.randn(side, side, generator=torch.Generator().manual_seed(0)) * 0.02
    torch.save({"coded": weights, "exact": weights + 1}, folder / "part.pth")
    bhk.convert(folder / "part.pth", folder / "part.bhk", bhk.Quality("balanced", exact=["exact"]))
    with Container.open(folder / "part.bhk") as part, (folder / "container.bhk").open("w+b") as file:
        writer, layers = ContainerWriter(file, 1 << 20), []
        for number in range(size // part.source.length):
            for layer in part.layers:
                streams = tuple(writer.copy(stream, part.read_stream(layer, stream)) for stream in layer.streams)
                layers.append(msgspec.structs.replace(layer, name=f"{number}.{layer.name}", streams=streams))
        writer.finish(msgspec.structs.replace(part.header, layers=tuple(layers)))


def open_container(folder: Path) -> tuple[int, int]:
    """Open it, and list its tensors."""
    with bhk.open(folder / "container.bhk") as file:
        return 1, int(len(file.names) < 2)


def slice_container(folder: Path) -> tuple[int, int]:
    """Read some rows of every tensor, and compare them with those of the first."""
    wrong, first = 0, dict[str, torch.Tensor]()
    with bhk.open(folder / "container.bhk") as file:
        for name in file.names:
            rows = file.tensor(name, slice(100, 100 + ROWS))
            wrong += not torch.equal(first.setdefault(name.rpartition(".")[2], rows), rows)
        return len(file.names), wrong


def make_checkpoint(folder: Path, size: int) -> None:
    """Write a .safetensors file of float32 weights: the same block of layers again and again."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) * 0.02 for shape in BLOCK]
    blocks = size // sum(tensor.nbytes for tensor in weights)
    header, end = dict[str, object](), 0
    for number in range(blocks):
        for place, tensor in enumerate(weights):
            begin, end = end, end + tensor.nbytes
            entry = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
            header[f"blocks.{number}.{place}.weight"] = entry
    text = json.dumps(header).encode()
    with (folder / "large.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _ in range(blocks):
            for tensor in weights:
                file.write(tensor.numpy().data)


def limit_data() -> None:
    """Limit the private memory that this process can write (RLIMIT_DATA), that of Python and torch included."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def convert_checkpoint(folder: Path) -> tuple[int, int]:
    """Convert it while the process may have no more than 2 GB of data."""
    limit_data()
    bhk.convert(folder / "large.safetensors", folder / "large.bhk")
    with bhk.open(folder / "large.bhk") as file, safe_open(folder / "large.safetensors", "pt") as source:
        rows = slice(10, 10 + ROWS)
        pairs = [(file.tensor(name, rows), source.get_slice(name)[rows]) for name in file.names]
    return len(pairs), sum(bool((coded - exact).norm() * LEAST_SNR > exact.norm()) for coded, exact in pairs)


def verify_checkpoint(folder: Path) -> tuple[int, int]:
    """Check every byte of the file under the same limit."""
    limit_data()
    return len(bhk.verify(folder / "large.bhk").layers), 0


def _measured(measure: Measure, folder: Path) -> Row:
    peak, began = HostPeak(), time.process_time()
    cases, wrong = measure(folder)
    row: Row = {"cases": cases, "wrong": wrong, "cpu_seconds": f"{time.process_time() - began:.1f}"}
    return row | ({} if peak.mib is None else {"peak_mib": f"{peak.mib:.0f}"})


def _apart(measure: Measure, folder: Path) -> Row:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (measure, folder))


def layers(folder: Path) -> Iterator[Row]:
    """Measure files of many layers."""
    make_layers(folder)
    for what, measure in (
        ("converted", convert_layers),
        ("listed", inspect_layers),
        ("verified with the checkpoint", verify_layers),
        ("one tensor of them loaded", load_one_layer),
    ):
        yield {"measure": f"{LAYERS:,} layers: {what}"} | _apart(measure, folder)


def container(folder: Path, gigabytes: float = 20) -> Iterator[Row]:
    """Measure a file that is larger than memory."""
    make_container(folder, int(gigabytes * GIGABYTE))
    size = {"gigabytes": f"{(folder / 'container.bhk').stat().st_size / GIGABYTE:.1f}"}
    yield {"measure": "a large file: opened"} | size | _apart(open_container, folder)
    yield {"measure": f"a large file: {ROWS} rows of each tensor read"} | size | _apart(slice_container, folder)
    (folder / "container.bhk").unlink()


def checkpoint(folder: Path, gigabytes: float = 8.1) -> Iterator[Row]:
    """Measure a conversion with less memory than the checkpoint has."""
    make_checkpoint(folder, int(gigabytes * GIGABYTE))
    size = {"gigabytes": f"{(folder / 'large.safetensors').stat().st_size / GIGABYTE:.1f}"}
    yield {"measure": "a large checkpoint: converted in 2 GB"} | size | _apart(convert_checkpoint, folder)
    yield {"measure": "a large checkpoint: its file verified in 2 GB"} | size | _apart(verify_checkpoint, folder)
    (folder / "large.safetensors").unlink()


PARTS = {part.__name__: part for part in (layers, container, checkpoint)}


def main() -> None:
    """Measure, and write the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="What to measure.")
    parser.add_argument(
        "--folder", metavar="DIR", help="Where 25 GB are free, for a folder that is removed afterwards."
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="The CSV file to write.")
    given = parser.parse_args()
    with given.out.open("w", newline="") as file, tempfile.TemporaryDirectory(dir=given.folder) as folder:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        for part in given.only:
            for row in PARTS[part](Path(folder)):
                table.writerow(row)
                file.flush()
                print(row, flush=True)


if __name__ == "__main__":
    main()
