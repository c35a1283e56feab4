"""transformers reads and writes models whose weights are in a .bhk file, once this module is imported:

    import bhk.transformers
    from transformers import SamModel

    model = SamModel.from_pretrained("user/repository")   # linear layers keep their codes, as `bhk.nn.HyperLinear`
    model.save_pretrained("folder")                        # model.bhk and config.json; codes are copied as they are

A repository (or a folder) holds model.bhk and a config.json with `"transformers_weights": "model.bhk"` and a
`quantization_config` of method "bhk"; `bhk push` writes them. transformers has no entry points for quantizers (as of 5.23),
and without this import it stops at the name of the weight file. Every tensor of a model must be in the file and the other way
round: nothing is initialised at random, also where transformers would do so. Works with transformers 5.1 to 5.23.
"""

from __future__ import annotations

from bhk.transformers.registration import register

register()

from bhk.transformers.quantizer import BhkConfig, BhkQuantizer  # noqa: E402

__all__ = ["BhkConfig", "BhkQuantizer"]
