"""Fuzz all that reads files of strangers.

    python -m tools.fuzz [--seconds N] [--targets container checkpoints annotations] [--work FOLDER] [--out FILE.csv]

Inputs that a reader fails on are kept in the work folder. Mend what they show, and put them into tests/fuzz/corpus/TARGET/,
from which `make test` reads them. Exits with 1 if there are any. New inputs stay in the work folder for the next run.
"""

from __future__ import annotations

import argparse
import csv
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tools.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
RESULTS = ROOT / "tools" / "bench" / "results" / "fuzzing.csv"
_LONGEST_INPUT = 1 << 14
_INPUT_SECONDS = 20  # that an input may take
_MEMORY_MB = 2048
_MOST_FINDINGS = 10  # of a target, after which its run ends


@dataclass
class Result:
    """What the fuzzing of a target came to.

    Attributes:
        target: its name.
        seconds: how long it ran.
        cpu_seconds: the time of a processor that it had.
        executions: inputs that were read.
        edges: places in the code between which a jump was seen.
        inputs: inputs that were kept because they reached something new.
        findings: inputs that the reader failed on.
    """

    target: str
    seconds: int = 0
    cpu_seconds: int = 0
    executions: int = 0
    edges: int = 0
    inputs: int = 0
    findings: int = 0


def fuzzed(name: str, seconds: int, work: Path) -> Result:
    """Fuzz a target for so long, again after each finding."""
    result = Result(name)
    seeds, grown, found = (work / kind / name for kind in ("seeds", "corpus", "findings"))
    for folder in (seeds, grown, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (seeds / str(number)).write_bytes(seed)
    folders = [folder for folder in (grown, seeds, CORPUS / name) if folder.is_dir()]
    started, before = time.monotonic(), _cpu_seconds()
    while (left := seconds - (time.monotonic() - started)) > 1 and result.findings < _MOST_FINDINGS:
        options = {
            "max_total_time": int(left),
            "max_len": _LONGEST_INPUT,
            "timeout": _INPUT_SECONDS,
            "rss_limit_mb": _MEMORY_MB,
            "print_final_stats": 1,
            "artifact_prefix": f"{found}/",
        }
        command = [sys.executable, "-m", "tools.fuzz.one", name, *map(str, folders)]
        command += [f"-{option}={value}" for option, value in options.items()]
        with (work / f"{name}.log").open("w+b") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
            log.seek(0)
            text = log.read().decode("utf-8", "replace")
        numbers = [int(number) for number in re.findall(r"^#(\d+)\s", text, re.MULTILINE)]
        if not numbers:
            raise SystemExit(f"the fuzzer of {name} did not start; see {work / name}.log")
        executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
        result.executions += int(executed[1]) if executed else max(numbers)
        result.edges = max([result.edges, *map(int, re.findall(r"cov: (\d+)", text))])
        result.findings = sum(1 for _ in found.iterdir())
    result.seconds, result.cpu_seconds = round(time.monotonic() - started), round(_cpu_seconds() - before)
    result.inputs = sum(1 for _ in grown.iterdir())
    return result


def _cpu_seconds() -> float:
    """Return the time of a processor that the fuzzers of this process have had."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--work", type=Path, default=ROOT / "fuzz_out")
    parser.add_argument("--out", type=Path, help="write a CSV file with executions, coverage and findings")
    options = parser.parse_args()
    results = []
    for name in options.targets:
        results.append(fuzzed(name, options.seconds // len(options.targets), options.work.resolve()))
        print(" ".join(f"{key}={value}" for key, value in asdict(results[-1]).items()), flush=True)
        if options.out:
            with options.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(Result)], lineterminator="\n")
                writer.writeheader()
                writer.writerows(map(asdict, results))
    sys.exit(any(result.findings for result in results))


if __name__ == "__main__":
    main()
