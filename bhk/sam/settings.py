"""Settings of a model as a configuration states them, made harmless.

Only numbers, flags and a few known words are kept of a configuration: no paths, no code to import, nothing to download. The
builders check the same again, because the settings in a file cannot be trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bhk.base.errors import shown

# What a setting may hold as text: the kind of a (part of a) model, an activation, a kind of positions, a model of timm.
_TEXTS = re.compile(
    r"model_type|architecture|rope_type|(\w+_)?hidden_act|class|name|features|activation|fpn_interp_model|fuse_type|neck_norm"
)
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,79}")
_LARGEST = 1 << 16  # of any number; the vocabularies of Segment Anything have 49,408 words
_LARGEST_SIDE = 1 << 12  # of a picture in pixels: tables of positions grow with its square
_LONGEST = 1 << 8  # of a list
_DEEPEST = 8  # settings within settings
_UNUSED = ("architectures", "transformers_version", "id2label", "label2id", "label_names")


class SettingError(ValueError):
    """A setting is not one that a model of the family can have."""


def plain_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config.json without those that name code, files or places, or say nothing about the model."""
    return {
        key: _plain(key, value)
        for key, value in config.items()
        if isinstance(key, str)
        and not key.startswith("_")
        and key not in _UNUSED
        and (not isinstance(value, str) or _TEXTS.fullmatch(key))
    }


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_settings(value)
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value if not isinstance(item, str) or _TEXTS.fullmatch(key)]
    return value


def check_settings(settings: Mapping[str, Any], deep: int = 0) -> None:
    """Check that settings are plain and of a size that a model can have.

    Raises:
        SettingError: one is not.
    """
    if deep > _DEEPEST:
        raise SettingError(f"settings nested more than {_DEEPEST} deep")
    for key, value in settings.items():
        name = shown(key, 60)
        most = _LARGEST_SIDE if "image_size" in key else _LARGEST
        items = value if isinstance(value, list) else [value]
        if len(items) > _LONGEST:
            raise SettingError(f"{name} with {len(items)} entries, more than {_LONGEST}")
        for item in items:
            if isinstance(item, str) and not _TEXTS.fullmatch(key):
                raise SettingError(f"{name} = {shown(item, 60)!r}; expected a number")
            _check_setting(name, item, most, deep)


def _check_setting(name: str, value: object, most: int, deep: int) -> None:
    if isinstance(value, dict):
        check_settings(value, deep + 1)
    elif isinstance(value, list):
        check_settings({name: value}, deep + 1)
    elif isinstance(value, str):
        if value and not _WORD.fullmatch(value):
            raise SettingError(f"{name} = {shown(value, 60)!r}; expected a word")
    elif isinstance(value, int | float):
        if not -most <= value <= most:
            raise SettingError(f"{name} = {value:.9g}, more than {most:,}")
    elif value is not None:
        raise SettingError(f"{name} of type {type(value).__name__}")
