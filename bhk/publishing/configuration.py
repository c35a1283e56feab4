"""`config.json` of a published repository: which model it holds, and in which file."""

from __future__ import annotations

import json
from typing import Any

from bhk.base.errors import BhkError, shown
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import CONFIG, companions_of
from bhk.container.header import Header

METHOD = "bhk"  # the quantization method, in the terms of transformers
_QUANTIZATION = "quantization_config"
_WEIGHTS = "transformers_weights"  # the key in which transformers finds the weight file


class StoredConfigError(BhkError):
    """The config.json stored in a .bhk file cannot be published."""


def make_config(header: Header, file_name: str) -> str:
    """Return the text of the config.json beside `file_name`.

    For a model of transformers, this is the original config.json, which the .bhk file carries, with the name of the .bhk file
    added; without bhk, transformers then stops with an error instead of making random weights. For other models it says what
    the header says.

    Args:
        header: the header of the file.
        file_name: the name of the file in the repository.

    Raises:
        StoredConfigError: the stored config.json is not a JSON object, or belongs to weights quantized by another method.
    """
    config = _stored(header)
    if config is None:
        config = {METHOD: _model(header)} if header.model else {}
        return _text(config | {_QUANTIZATION: _quantization(file_name)})
    method = config.get(_QUANTIZATION)
    if method is not None and not (isinstance(method, dict) and method.get("quant_method") == METHOD):
        raise StoredConfigError(
            f"the stored {CONFIG} already has a {_QUANTIZATION} ({shown(json.dumps(method))}); convert the model as it was "
            "before that quantization"
        )
    return _text(config | {_QUANTIZATION: _quantization(file_name), _WEIGHTS: file_name})


def is_ours(text: bytes) -> bool:
    """Return whether bhk wrote a config.json, so that it may be replaced."""
    try:
        method = parse_object(text).get(_QUANTIZATION)
    except StrictJsonError:
        return False
    return isinstance(method, dict) and method.get("quant_method") == METHOD


def _stored(header: Header) -> dict[str, Any] | None:
    text = companions_of(header.metadata).get(CONFIG)
    if text is None:
        return None
    try:
        return parse_object(text.encode("utf-8"))
    except StrictJsonError as error:
        raise StoredConfigError(
            f"the stored {CONFIG} is damaged ({shown(error)}); convert the checkpoint again"
        ) from error


def _model(header: Header) -> dict[str, Any]:
    assert header.model is not None
    return {"family": header.model.family, "variant": header.model.variant, "arguments": header.model.arguments}


def _quantization(file_name: str) -> dict[str, str]:
    return {"quant_method": METHOD, "file": file_name}


def _text(config: dict[str, Any]) -> str:
    """Return the JSON text, with the keys in their order."""
    try:
        return json.dumps(config, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise StoredConfigError(
            f"the stored {CONFIG} holds NaN or infinity, which JSON cannot express; convert the checkpoint again"
        ) from error
