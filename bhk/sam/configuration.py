"""Settings of a transformers model that its shapes do not show; they are read from the config.json beside the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bhk.base.strict_json import StrictJsonError, parse_object

FILE = "config.json"
_COMMON = {
    "vision_config.hidden_act": "gelu",
    "vision_config.layer_norm_eps": 1e-6,
    "prompt_encoder_config.hidden_act": "gelu",
    "prompt_encoder_config.layer_norm_eps": 1e-6,
    "mask_decoder_config.num_attention_heads": 8,
}
_SAM = {**_COMMON, "mask_decoder_config.hidden_act": "relu", "mask_decoder_config.layer_norm_eps": 1e-6}
# The settings of the models that `bhk.sam.build` builds, by family: the defaults of transformers.
_BUILT = {
    "transformers_sam": _SAM,
    "transformers_sam_hq": _SAM,
    "transformers_sam2": {
        **_COMMON,
        "mask_decoder_config.hidden_act": "gelu",
        "vision_config.backbone_config.hidden_act": "gelu",
        "vision_config.backbone_config.layer_norm_eps": 1e-6,
    },
}


def deviations(family: str, folder: Path) -> tuple[str, ...]:
    """Return the settings in `folder`'s config.json that differ from those bhk builds `family` with, as "a.b = 1"."""
    if family not in _BUILT:
        return ()
    try:
        config = parse_object((folder / FILE).read_bytes())
    except (OSError, StrictJsonError):
        return ()
    found = ((path, _lookup(config, path)) for path in _BUILT[family])
    return tuple(f"{path} = {value}" for path, value in found if value not in (None, _BUILT[family][path]))


def _lookup(config: object, path: str) -> Any:
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config
