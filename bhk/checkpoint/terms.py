"""The terms of a model: its license, and what the Hub asks of those who want its weights. They travel with the weights.

`bhk convert` finds them in the repository that a checkpoint lies in, or in a copy of it: a folder whose README.md is a model
card. The text of the license goes under `file.LICENSE` in the metadata of the .bhk file, and what the card says about license
and gate under `source.terms`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import KEY, MAX_BYTES
from bhk.checkpoint.contents import Checkpoint
from bhk.hub.address import address_of
from bhk.hub.card_metadata import CardMetadataError, metadata_of, parsed
from bhk.hub.download import may_exist

CARD = "README.md"
LICENSE = "LICENSE"
LICENSES = (LICENSE, "LICENSE.md", "LICENSE.txt")  # the names that it may have
LICENSE_KEY = KEY + LICENSE
TERMS_KEY = "source.terms"
GATE = "extra_gated_"  # how the entries of a card begin that shape the form for those who ask for access
_STATED = ("license", "license_name", "license_link")
_MOST_CARD_BYTES = 1_000_000
_NOT_KEPT = f"what {CARD} says about license and gate is not kept in the .bhk file"


@dataclass(frozen=True)
class Terms:
    """The terms that a .bhk file carries.

    Attributes:
        license: the text of the license; None if it has none.
        card: what the card of the original said about license and gate, by the Hub's names.
    """

    license: str | None = None
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gate(self) -> dict[str, Any]:
        """The entries of the card that shape the form for those who ask for access; empty if it has none."""
        return {key: value for key, value in self.card.items() if key.startswith(GATE)}


def terms_beside(checkpoint: Checkpoint) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the metadata entries for the terms of a checkpoint, and reasons in words for what is not kept.

    There are no entries where no model card lies beside the checkpoint: a license there may be that of a program.
    """
    source = checkpoint.source
    if not source.files:
        return {}, ()
    folder = _top(checkpoint)
    if missed := _missed(checkpoint, folder, (CARD,)):
        return {}, missed
    found = _text(folder / CARD, _MOST_CARD_BYTES)
    try:
        card = parsed(metadata_of(found)[0]) if found else {}
    except CardMetadataError as error:
        return {}, (f"the license and the gate are not kept in the .bhk file, because of {CARD} beside it: {error}",)
    stated = {key: value for key, value in card.items() if key in _STATED or key.startswith(GATE)}
    if not card:
        return {}, ()
    entries, faults = {}, []
    if stated:
        try:
            encoded = json.dumps(stated, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError):
            faults.append(f"{_NOT_KEPT}: it has values that are no JSON, such as dates or NaN")
        else:
            if len(encoded) <= MAX_BYTES:
                entries[TERMS_KEY] = encoded
            else:
                faults.append(f"{_NOT_KEPT}: as JSON, it has more than {MAX_BYTES:,} bytes")
    for path in filter(Path.is_file, (folder / name for name in LICENSES)):
        text = _text(path, MAX_BYTES)
        if text is not None:
            entries[LICENSE_KEY] = text
            break
        faults.append(
            f"{path.name} is not kept in the .bhk file: it is empty, not UTF-8, or larger than {MAX_BYTES:,} bytes"
        )
    if LICENSE_KEY not in entries:
        faults += _missed(checkpoint, folder, LICENSES)
    return entries, tuple(faults)


def _top(checkpoint: Checkpoint) -> Path:
    """Return the folder with the terms: the checkpoint's own, or the top of its repository on the Hub, in the cache."""
    source = checkpoint.source
    folder = (source.index or source.files[0]).parent
    if address_of(source.name) is None:
        return folder
    return next((above for above in (folder, *folder.parents) if above.parent.name == "snapshots"), folder)


def _missed(checkpoint: Checkpoint, folder: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a reason in words if the repository may have one of the files, though the Hub did not deliver it."""
    address = address_of(checkpoint.source.name)
    if address is None or folder.parent.name != "snapshots":
        return ()
    for name in names:
        if not (folder / name).is_file() and may_exist(address, name, folder.name):
            return (
                f"the license of {address} may be missing in the .bhk file, because {name} could not be fetched; convert again "
                "when the Hub can be reached, or name the license with `bhk push --license`",
            )
    return ()


def terms_of(metadata: Mapping[str, str]) -> Terms:
    """Return the terms in the metadata of a .bhk file; without those that are too long or no JSON."""
    license, card = metadata.get(LICENSE_KEY), metadata.get(TERMS_KEY, "")
    try:
        stated = parse_object(card.encode("utf-8")) if 0 < len(card) <= MAX_BYTES else {}
    except (StrictJsonError, UnicodeEncodeError):
        stated = {}
    usable = {key: value for key, value in stated.items() if key in _STATED or key.startswith(GATE)}
    return Terms(license if license and len(license) <= MAX_BYTES else None, usable)


def _text(path: Path, most: int) -> str | None:
    """Return the text of a file; None if there is none, or it is no text or too long."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        return data.decode("utf-8") if 0 < len(data) <= most else None
    except (OSError, UnicodeDecodeError):
        return None
