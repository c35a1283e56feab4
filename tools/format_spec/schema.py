"""The JSON Schema of the header, made from the structs that read it."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from bhk.container.header import DTYPES, ENCODINGS, KINDS, LATTICES, PAIRINGS, ROLES, Header

_CODECS = ("none", "zstd", "shuffle+zstd", "packed")
_CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("LayerEntry", "dtype"): tuple(DTYPES),
    ("LayerEntry", "role"): ROLES,
    ("LayerEntry", "encoding"): ENCODINGS,
    ("LayerEntry", "pairing"): PAIRINGS,
    ("CodebookEntry", "lattice"): LATTICES,
    ("StreamEntry", "kind"): KINDS,
    ("StreamEntry", "codec"): _CODECS,
}


def header_schema() -> dict[str, Any]:
    """Return the schema: the types of the structs, the words that a field may have, and extension keys allowed."""
    (reference,), components = msgspec.json.schema_components([Header], ref_template="#/$defs/{name}")
    for (name, field), words in _CHOICES.items():
        _set_choice(components[name]["properties"], field, words)
    for component in components.values():
        assert component["additionalProperties"] is False
        component["patternProperties"] = {"^x-": {}}
        component["description"] = component["description"].partition("\n")[0]  # without the list of attributes
        for field in component["properties"].values():
            if "anyOf" in field:
                field["anyOf"].sort(
                    key=lambda choice: choice == {"type": "null"}
                )  # last, as newer versions of msgspec do
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Header of a .bhk file, format version 1.2",
        "description": "Types and names only. The rules about values, and that integers have no fraction, are in README.md.",
        **reference,
        "$defs": components,
    }


def _set_choice(properties: dict[str, Any], field: str, words: tuple[str, ...]) -> None:
    old = properties[field]
    choices: tuple[str | None, ...] = (*words, None) if "anyOf" in old else words
    properties[field] = {**({"default": old["default"]} if "default" in old else {}), "enum": list(choices)}


def schema_text() -> str:
    return json.dumps(header_schema(), indent=2, sort_keys=True) + "\n"
