"""Building models of transformers from their configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from bhk.base.errors import shown
from bhk.sam.settings import SettingError, check_settings
from bhk.sam.variants import Family

# How the types of Segment Anything's models and their parts begin in transformers, and the parts that other models have too.
_OWN = ("sam", "edgetam")
_SHARED = ("clip_text_model", "timm_wrapper")


def build_configured(package: Any, family: Family, settings: Mapping[str, Any], *, video: bool = False) -> nn.Module:
    """Build the model of transformers that settings describe, by the class that the table of families has for its type.

    With `video`, it is the class for clips.

    Raises:
        ValueError: the settings are not those of a model of the family.
    """
    check_settings(settings)
    kind = str(settings.get("model_type"))
    classes = family.video if video else family.classes
    if kind not in classes:
        raise SettingError(f"model_type {shown(kind, 60)!r}; expected {' or '.join(classes)}")
    for part in _types(settings):
        if not part.startswith(_OWN) and part not in _SHARED:
            raise SettingError(f"a part of model_type {shown(part, 60)!r}, which no Segment Anything model has")
    model_type = getattr(package, classes[kind])
    config_type = model_type.config_class
    try:
        model: nn.Module = model_type(config_type.from_dict({**settings, "model_type": config_type.model_type}))
    except ImportError:
        raise
    except Exception as error:  # settings may say anything, and raise anything
        raise ValueError(str(error).partition("\n")[0]) from error
    return model


def _types(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the types of the parts that settings describe."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _types(value)
        elif key == "model_type" and value != "":  # transformers up to 5.19 leaves it empty in some parts
            yield str(value)
