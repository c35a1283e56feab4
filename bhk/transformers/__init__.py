"""transformers reads and writes models whose weights are in a .bhk file, once this module is imported:

    import bhk.transformers
    from transformers import SamModel

    model = SamModel.from_pretrained("user/repository")   # linear layers keep their codes, as `bhk.nn.HyperLinear`
    model.save_pretrained("folder")                        # model.bhk and config.json; codes are copied as they are

A repository (or a folder) holds model.bhk and a config.json with `"transformers_weights": "model.bhk"` and a
`quantization_config` of method "bhk"; `bhk push` writes them. transformers has no entry points for quantizers (as of 5.24),
and without this import it stops at the name of the weight file. Every tensor of a model must be in the file and the other way
round: nothing is initialised at random but what the class of the model says no checkpoint needs to hold. transformers cannot
load models in several threads at once; where that has left a tensor without values, loading ends with an error. Needs
transformers 5.1; all tests pass with 5.24, and loading and saving were tried with 5.1.0 and 5.4.0.
"""

from __future__ import annotations

from bhk.transformers.registration import register

register()

from bhk.transformers.quantizer import BhkConfig, BhkQuantizer  # noqa: E402

__all__ = ["BhkConfig", "BhkQuantizer"]
