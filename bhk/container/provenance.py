"""How a file was made, as the entries of its metadata under `conversion.` say it. Needs no torch.

`bhk.conversion.provenance` writes these entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bhk.base.errors import shown
from bhk.base.texts import counted
from bhk.container.header import Header

KEY = "conversion."  # prefix of the entries

_SHOWN = 160  # characters of an entry


def made_with(header: Header) -> str:
    """Return how a file was made, in one line: the program, what was asked for, calibration, versions.

    Of a file without such entries, only the program is known.
    """
    stated = {key.removeprefix(KEY): value for key, value in header.metadata.items() if key.startswith(KEY)}
    return " · ".join((shown(header.generator, _SHOWN), *_parts(stated)))


def _parts(stated: Mapping[str, str]) -> Iterator[str]:
    found = {name: shown(value, _SHOWN) for name, value in stated.items()}
    if "quality" in found:
        yield found["quality"]
    for name, words in (("exact", "exact"), ("only", "only"), ("snr_for", ""), ("key", "key")):
        if name in found:
            yield f"{words} {found[name]}".strip()
    if "samples" in found:
        yield f"calibrated on {', '.join((found['samples'], *_calibration(found)))}"
    versions = [f"{name} {found[name]}" for name in ("torch", "zstandard") if name in found]
    if versions:
        yield ", ".join(versions)


def _calibration(found: Mapping[str, str]) -> Iterator[str]:
    count = found.get("samples.count", "")
    if count.isascii() and count.isdigit() and len(count) < 16:
        yield counted(int(count), "sample")
    for name in ("seed", "steps"):
        if name in found:
            yield f"{name} {found[name]}"


def others(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of the metadata that `made_with` does not tell."""
    return {key: value for key, value in metadata.items() if not key.startswith(KEY)}
