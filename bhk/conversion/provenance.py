"""How a file is made, for its metadata, in plain words; `bhk.container.provenance` reads it.

No path, user name or time is among the entries, so the same conversion without calibration writes the same file anywhere. A
calibrated one depends on sums that builds of torch and processors round differently.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
import zstandard
from torch import nn

from bhk.calibration.options import Calibration
from bhk.container.provenance import KEY
from bhk.conversion.quality import Quality
from bhk.pictures.prompted import KINDS


def provenance(quality: Quality, key: str | None) -> dict[str, str]:
    """Return the entries for what was asked for, and for the versions that the bytes of the file may depend on.

    Args:
        quality: how finely the model is coded.
        key: which state dict of the checkpoint is converted; None if it was not chosen.
    """
    rules = {
        "exact": ", ".join(quality.exact),
        "only": ", ".join(quality.only),
        "snr_for": ", ".join(f"{snr_db:g} dB for {pattern}" for pattern, snr_db in quality.snr_for.items()),
        "key": key or "",
    }
    entries = {"quality": quality.asked, **{name: text for name, text in rules.items() if text}}
    # Without calibration, builds for a CPU and for a GPU write the same file.
    release, *_ = str(torch.__version__).split("+")
    return _prefixed({**entries, "torch": release, "zstandard": zstandard.__version__})


def calibration_provenance(calibration: Calibration, module: nn.Module, count: int) -> dict[str, str]:
    """Return the entries for a calibration.

    Args:
        calibration: its options.
        module: the model that is shown the samples.
        count: how many samples it is shown.
    """
    return _prefixed(
        {
            "samples": _samples(calibration, module),
            "samples.count": str(count),
            "seed": str(calibration.seed),
            "steps": calibration.steps,
        }
    )


def _samples(calibration: Calibration, module: nn.Module) -> str:
    samples = calibration.samples
    if not isinstance(samples, str | os.PathLike):
        return "own samples"
    if getattr(module, "main_input_name", None) == "input_ids":
        return "random tokens"
    if samples in KINDS:
        return str(samples)
    return f"folder {Path(samples).name}".strip()  # its path may name a user


def _prefixed(entries: dict[str, str]) -> dict[str, str]:
    """Return the entries under their full keys, as Unicode, which patterns and names of folders need not be."""
    return {KEY + name: text.encode(errors="replace").decode() for name, text in entries.items()}
