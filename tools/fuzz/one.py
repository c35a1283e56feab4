"""Fuzz one target in this process, which ends at the first finding: `python -m tools.fuzz.one TARGET [libFuzzer options]`."""

from __future__ import annotations

import random
import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    import torch  # before imports are watched, which would take long for it

    torch.set_num_threads(1)
    with atheris.instrument_imports(include=["bhk", "format_spec"], enable_loader_override=False):
        from tools.fuzz.structure import FAULTS
        from tools.fuzz.targets import TARGETS
    target = TARGETS[name]

    def change(data: bytes, most: int, seed: int) -> bytes:
        draw = random.Random(seed)

        def mutate(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, len(part) + 16))

        try:
            changed = mutate(data) if draw.random() < 0.1 else target.change(data, draw, mutate)
        except FAULTS:  # the input has lost its structure
            changed = mutate(data)
        return changed[:most]

    atheris.Setup(sys.argv, target.run, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
