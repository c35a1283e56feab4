"""`config.json` of a published repository: which model it is, and where its weights are."""

from __future__ import annotations

import json
from typing import Any

from bhk.base.errors import BhkError, shown
from bhk.base.strict_json import StrictJsonError, parse_object
from bhk.checkpoint.companions import CONFIG, companions_of
from bhk.container.header import Header

METHOD = "bhk"  # as transformers calls the way in which weights are stored
_QUANTIZATION = "quantization_config"
_WEIGHTS = "transformers_weights"  # names the weight file to transformers


class StoredConfigError(BhkError):
    """The config.json that a .bhk file carries cannot be published."""


def make_config(header: Header, file_name: str) -> str:
    """Return the text of the config.json beside `file_name`.

    Of a model of transformers, it is the original one, which the file carries, and names the .bhk file: without bhk,
    transformers then stops and says so, in place of making random weights. Of others, it says what the header says.

    Args:
        header: of the file.
        file_name: its name in the repository.

    Raises:
        StoredConfigError: the stored one is no JSON object, or is of weights that another method has quantized.
    """
    config = _stored(header)
    if config is None:
        config = {METHOD: _model(header)} if header.model else {}
        return _text(config | {_QUANTIZATION: _quantization(file_name)})
    method = config.get(_QUANTIZATION)
    if method is not None and not (isinstance(method, dict) and method.get("quant_method") == METHOD):
        raise StoredConfigError(
            f"the stored {CONFIG} has a {_QUANTIZATION} of its own ({shown(json.dumps(method))}), and a model has one only; "
            "convert the model as it was before that"
        )
    return _text(config | {_QUANTIZATION: _quantization(file_name), _WEIGHTS: file_name})


def is_ours(text: bytes) -> bool:
    """Tell whether a config.json names a .bhk file as the weights, so that another one may take its place."""
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
            f"the stored {CONFIG} is {shown(error)}; expected that of transformers; convert the checkpoint again"
        ) from error


def _model(header: Header) -> dict[str, Any]:
    assert header.model is not None
    return {"family": header.model.family, "variant": header.model.variant, "arguments": header.model.arguments}


def _quantization(file_name: str) -> dict[str, str]:
    return {"quant_method": METHOD, "file": file_name}


def _text(config: dict[str, Any]) -> str:
    """Return JSON in the order of its keys."""
    try:
        return json.dumps(config, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise StoredConfigError(
            f"the stored {CONFIG} holds numbers that JSON lacks (NaN, infinity); convert the checkpoint again"
        ) from error
