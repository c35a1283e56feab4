from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from container.memory import header_text

VECTORS = Path(__file__).parents[2] / "format_spec" / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((VECTORS.parent / "header.schema.json").read_text(encoding="utf-8"))
# JSON Schema calls 4.0 and 4e0 integers.
NOTATION = {
    "bad/H4_windings_with_exponent.bhk",
    "bad/H4_windings_with_fraction.bhk",
    "bad/H4_shape_of_floats.bhk",
    "bad/H4_window_of_floats.bhk",
}
# Nor does it look at features.
FEATURES = {"bad/C5_grid_without_its_feature.bhk"}
# Rules about types, keys and words, which the schema knows as well.
KNOWN = {"H3", "H4", "L1", "L2", "L3", "C5", "S1"}


def _header(path: str) -> Any:
    return json.loads(header_text((VECTORS / path).read_bytes()))


def _paths(verdicts: set[str]) -> list[str]:
    return [path for path, entry in MANIFEST.items() if entry["verdict"] in verdicts]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", _paths({"good"}))
def test_accepts_good_headers(path: str) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(_header(path))


@pytest.mark.parametrize("path", sorted(set(_paths(KNOWN)) - NOTATION - FEATURES))
def test_refuses_other_keys_types_and_words(path: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(_header(path))


def test_extension_keys_are_allowed_in_every_object() -> None:
    assert SCHEMA["$defs"].keys() == {
        "Header",
        "LayerEntry",
        "StreamEntry",
        "CodebookEntry",
        "ErrorEntry",
        "ModelEntry",
    }
    for definition in SCHEMA["$defs"].values():
        assert definition["additionalProperties"] is False
        assert definition["patternProperties"] == {"^x-": {}}
