"""Importing this module lets transformers load and save models whose weights are in a .bhk file:

    import bhk.transformers
    from transformers import SamModel

    model = SamModel.from_pretrained("user/repository")   # layers keep their codes, as `bhk.nn.HyperLinear`
    model.save_pretrained("folder")                        # model.bhk and config.json; codes are copied unchanged

A repository or folder holds model.bhk and a config.json with `"transformers_weights": "model.bhk"` and a `quantization_config`
of method "bhk"; `bhk push` writes both. The import is necessary because transformers has no entry points for quantizers (as of
5.24): without it, loading stops at the name of the weight file.

The tensors of file and model must be the same. Nothing is initialised at random, except what the model's class says that no
checkpoint needs to hold. transformers cannot load models in several threads at once; if that leaves a tensor without values,
loading raises an error.

Requires transformers 5.20. All tests pass with 5.20 and 5.24.
"""

from __future__ import annotations

from bhk.transformers.registration import register

register()

from bhk.transformers.quantizer import BhkConfig, BhkQuantizer  # noqa: E402

__all__ = ["BhkConfig", "BhkQuantizer"]
