"""Registering .bhk files with transformers. No other module here changes transformers."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from bhk.transformers.errors import UnsupportedTransformersError

OLDEST = (5, 10)

# Functions that are extended or used here, and that transformers does not promise to keep.
_NEEDED = (
    "transformers.configuration_utils:PreTrainedConfig.from_pretrained",
    "transformers.modeling_utils:_get_resolved_checkpoint_files",
    "transformers.modeling_utils:PreTrainedModel._load_pretrained_model",
    "transformers.modeling_utils:PreTrainedModel._adjust_missing_and_unexpected_keys",
    "transformers.modeling_utils:PreTrainedModel.save_pretrained",
    "transformers.core_model_loading:rename_source_key",
    "transformers.core_model_loading:dot_natural_key",
    "transformers.core_model_loading:WeightRenaming",
    "transformers.core_model_loading:WeightConverter",
    "transformers.conversion_mapping:get_model_conversion_mapping",
    "transformers.quantizers.auto:register_quantization_config",
    "transformers.quantizers.auto:register_quantizer",
)


def register() -> None:
    """Register the quantizer "bhk", and extend how transformers finds, loads and saves weights. Repeated calls do nothing.

    Raises:
        UnsupportedTransformersError: transformers is not installed, or its version works differently.
    """
    _check_version()
    from transformers import PreTrainedConfig, PreTrainedModel, modeling_utils
    from transformers.quantizers import auto

    from bhk.transformers.loading import find_file, load_config, load_weights
    from bhk.transformers.quantizer import METHOD, BhkConfig, BhkQuantizer
    from bhk.transformers.saving import save

    if METHOD in auto.AUTO_QUANTIZER_MAPPING:
        return
    auto.register_quantization_config(METHOD)(BhkConfig)
    auto.register_quantizer(METHOD)(BhkQuantizer)
    _extend(PreTrainedConfig, "from_pretrained", lambda original: classmethod(load_config(original.__func__)))
    _extend(modeling_utils, "_get_resolved_checkpoint_files", find_file)
    _extend(PreTrainedModel, "_load_pretrained_model", lambda original: staticmethod(load_weights(original)))
    _extend(PreTrainedModel, "save_pretrained", save)


def _extend(holder: Any, name: str, extension: Callable[[Any], Any]) -> None:
    setattr(holder, name, extension(getattr(holder, name)))


def _check_version() -> None:
    oldest = ".".join(map(str, OLDEST))
    try:
        version = importlib.import_module("transformers").__version__
    except (ImportError, AttributeError) as error:
        raise UnsupportedTransformersError(
            f"bhk.transformers needs transformers {oldest} or newer ({error}); run: pip install 'transformers>={oldest}'"
        ) from error
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise UnsupportedTransformersError(
            f"transformers {version} is too old for bhk.transformers; run: pip install 'transformers>={oldest}'"
        )
    for name in _NEEDED:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            raise UnsupportedTransformersError(
                f"transformers {version} has no {name.partition(':')[2]}, which bhk needs; update bhk, or install another "
                f"version of transformers, {oldest} or newer"
            ) from None
