"""The configuration files beside a checkpoint of transformers, without which its model cannot be built.

`bhk convert` keeps their text in the metadata of the .bhk file, under `file.config.json` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bhk.base.errors import shown
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.contents import Checkpoint
from bhk.checkpoint.layout import Layout

CONFIG = "config.json"
COMPANIONS = (CONFIG, "preprocessor_config.json", "processor_config.json")
KEY = "file."  # prefix of their metadata entries
MAX_FILE_BYTES = 1_000_000  # read at most, with white space
MAX_BYTES = 64_000  # of one file's text; those of Segment Anything have about 5 kB

# Entries of transformers that lead to code. An implementation of attention may be the name of a repository with kernels.
_CODE = frozenset(
    {"auto_map", "code_revision", "custom_generate", "custom_pipelines", "kernel_config", "trust_remote_code"}
)

_PLACE = "_name_or_path"  # a path on the machine that wrote it: useless elsewhere, and possibly private

# Only checkpoints written by transformers have the names that config.json describes; original ones often lie beside them.
_WEIGHTS = re.compile(r"(model|pytorch_model)(\.[\w-]+)?\.(safetensors|bin)(\.index\.json)?")


class _UnusableError(ValueError):
    """A companion cannot be kept; the message continues a sentence that starts with its name."""


def has_companions(name: str) -> bool:
    """Return whether transformers finds a checkpoint file (an index, if sharded) by the name `name`."""
    return bool(_WEIGHTS.fullmatch(name))


def companions_beside(checkpoint: Checkpoint) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the metadata entries for the files beside `checkpoint`, and reasons in words for those that are not kept.

    There are no entries without a usable config.json, or if the checkpoint wraps or renames its tensors.
    """
    source = checkpoint.source
    if not source.files or checkpoint.layout != Layout():
        return {}, ()
    file = source.index or source.files[0]
    kept: dict[str, str] = {}
    faults: list[str] = []
    for path in [file.with_name(name) for name in COMPANIONS] if has_companions(file.name) else ():
        try:
            if path.is_file():
                kept[KEY + path.name] = _text(path)
        except _UnusableError as error:
            faults.append(f"{path.name} {error}; it is not kept in the .bhk file")
    return (kept if KEY + CONFIG in kept else {}), tuple(faults)


def companions_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the text of each file that `companions_beside` kept, by file name.

    Without entries that name code, which other programs would fetch and run, and without files that are too long;
    `companions_beside` keeps none of these, but another writer may have.
    """
    stored = {name: metadata[KEY + name] for name in COMPANIONS if KEY + name in metadata}
    return {name: _of_writer(text) for name, text in stored.items() if len(text) <= MAX_BYTES}


def readable_companions_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return those texts of `companions_of` that are JSON objects. In others, less strict programs might find code."""
    return {name: text for name, text in companions_of(metadata).items() if _object(text) is not None}


def _of_writer(text: str) -> str:
    value = _object(text)
    if value is None:  # reported where it is used
        return text
    harmless = without_code(value)
    return text if harmless == value else json.dumps(harmless, separators=(",", ":"))


def _object(text: str) -> dict[str, Any] | None:
    try:
        return parse_object(text.encode("utf-8"))
    except (StrictJsonError, UnicodeEncodeError):
        return None


def without_code(value: Any) -> Any:
    """Return a JSON value without entries that name code: classes in a repository, kernels on the Hub."""
    if isinstance(value, list):
        return list(map(without_code, value))
    if not isinstance(value, dict):
        return value
    return {key: without_code(item) for key, item in value.items() if not _names_code(key, item)}


def _names_code(key: str, value: Any) -> bool:
    return key in _CODE or (key.endswith("implementation") and not (isinstance(value, str) and "/" not in value))


def _text(path: Path) -> str:
    """Return the JSON text of a file without white space."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        value = parse_object(data)
        if path.name == CONFIG:
            value.pop(_PLACE, None)
        text = json.dumps(without_code(value), separators=(",", ":"), allow_nan=False)
    except StrictJsonError as error:
        too_long = len(data) > MAX_FILE_BYTES
        raise _UnusableError(f"has more than {MAX_FILE_BYTES:,} bytes" if too_long else f"is {shown(error)}") from None
    except OSError as error:
        raise _UnusableError(f"cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise _UnusableError("holds NaN or infinity, which JSON does not allow") from None
    if path.name == CONFIG and "model_type" not in value:
        raise _UnusableError("has no model_type of transformers")
    if path.name == CONFIG and "quantization_config" in value:
        raise _UnusableError("has a quantization_config, so another method has stored the tensors in its own form")
    if len(text) > MAX_BYTES:
        raise _UnusableError(f"has {len(text):,} bytes, more than {MAX_BYTES:,}")
    return text
