"""The quantizer "bhk": transformers' interface for a way to store weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from bhk.base.names import BHK_SUFFIX, MODEL_FILE
from bhk.file.bhkfile import BhkFile, open_file
from bhk.nn.coded import BUFFERS, CodedWeight
from bhk.nn.dense import to_dense
from bhk.nn.embedding import HyperEmbedding
from bhk.nn.hyperlinear import HyperLinear
from bhk.nn.model_tensors import Replaceable, model_tensors, replaceable_layers
from bhk.nn.plan import named_tensors, stays_coded
from bhk.nn.precision import Dtype, floating_dtype
from bhk.transformers.errors import RepositoryError, TyingError
from bhk.transformers.names import Naming, find_names

METHOD = "bhk"


class BhkConfig(QuantizationConfigMixin):
    """The `quantization_config` of a config.json.

    Attributes:
        file: base name of the weight file. `transformers_weights` beside it repeats it; transformers reads only that.
        part: whether the model is only a part of the one in the file.
    """

    def __init__(self, file: str = MODEL_FILE, part: bool = False, **_: Any) -> None:
        self.quant_method = METHOD
        self.file = file
        self.part = part


@dataclass
class Loaded:
    """What a quantizer knows about the file that its model comes from.

    Attributes:
        path: the file.
        coded: name of a weight in the file -> name of the layer on codes that holds it.
        file: the file, open until the weights are loaded.
        naming: where the tensors that are not `coded` go in the model.
    """

    path: Path
    coded: Mapping[str, str]
    file: BhkFile | None
    naming: Naming = field(default_factory=lambda: Naming({}, frozenset()))

    def take_file(self) -> BhkFile:
        """Return the open file, for the caller to close."""
        file, self.file = self.file, None
        assert file is not None  # transformers loads the weights once
        return file


class BhkQuantizer(HfQuantizer):
    """Replaces linear layers and vocabularies by layers on codes where the .bhk file holds codes of their weights.

    Attributes:
        loaded: set while a model is loaded.
    """

    requires_calibration = False
    loaded: Loaded

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: Sequence[str] | None = None, **_: Any
    ) -> PreTrainedModel:
        """Replace layers of `model`, which is on the meta device.

        Raises:
            RepositoryError: the weights are not in a .bhk file.
            ReadError, FormatError: the file cannot be read or breaks a rule of the format.
        """
        path = _weight_file(checkpoint_files)
        file = open_file(path)
        self.loaded = Loaded(path, _put_coded_layers(model, file), file)
        return model

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        """Check that transformers tied the tensors that the model shares; the file may hold them under one name only.

        Raises:
            TyingError: it did not.
        """
        state = model.state_dict()
        pairs = [pair for pair in model.all_tied_weights_keys.items() if state.keys() >= set(pair)]
        untied = [name for name, twin in pairs if state[name].is_meta != state[twin].is_meta]
        if untied:
            raise TyingError(
                f"transformers did not tie {named_tensors(untied)} of {type(model).__name__}: it cannot load models in several "
                "threads at once, nor after that; load them one after another, in a new process"
            )

    def _dequantize(self, model: PreTrainedModel, dtype: Dtype | None = None) -> PreTrainedModel:
        """Turn each layer on codes into one of torch with the decoded weight."""
        to_dense(model)
        if getattr(model.config, "transformers_weights", None) is not None:
            del model.config.transformers_weights
        # By default transformers passes the configuration's dtype, which saving has turned into a name.
        return model.to(dtype=None if dtype is None else floating_dtype(dtype))

    def get_state_dict_and_metadata(
        self, model: PreTrainedModel, *_: Any
    ) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return no tensors: transformers' `save_pretrained` writes the files around them, `saving` the .bhk file."""
        return {}, {}

    def is_serializable(self, **_: Any) -> bool:
        """Return True: `save_pretrained` works, see `bhk.transformers.saving`."""
        return True

    @property
    def is_part(self) -> bool:
        """Whether the model is only a part of the one in the file."""
        return bool(self.quantization_config.part)

    @property
    def is_trainable(self) -> bool:
        """True: adapters can be trained, because gradients reach the inputs and biases of every `HyperLinear`."""
        return True

    @property
    def is_compileable(self) -> bool:
        """True: torch.compile works, because the operators of the layers have meta kernels."""
        return True


def _weight_file(files: Sequence[str] | None) -> Path:
    if files and len(files) == 1 and files[0].endswith(BHK_SUFFIX):
        return Path(files[0])
    found = Path(files[0]).name if files else "no file"
    raise RepositoryError(
        f"the weights are in {found}, expected a {BHK_SUFFIX} file: its config.json needs "
        f'"transformers_weights": "{MODEL_FILE}" beside the quantization_config; `bhk push` writes both'
    )


def _put_coded_layers(model: PreTrainedModel, file: BhkFile) -> dict[str, str]:
    """Replace each layer of which the file holds codes by a layer on codes on the meta device.

    Returns:
        a dictionary: name of the weight in the file -> name of the layer.
    """
    layers = _replaceable(model)
    known = {*model.state_dict(), *(f"{name}.{buffer}" for name in layers for buffer in BUFFERS)}
    held = {layer: buffer_names(layer.name) for layer in file.layers if stays_coded(layer)}
    asked = {*file.names, *(name for names in held.values() for name in names)}
    places = find_names(model, known, asked, get_model_conversion_mapping(model)).places
    coded = {}
    for layer, buffers in held.items():
        module = places.get(layer.name, "").removesuffix(".weight")
        if module not in layers or [places.get(name) for name in buffers] != [f"{module}.{b}" for b in BUFFERS]:
            continue  # the weight is decoded
        found = layers[module]
        if layer.shape == tuple(found.weights["weight"].tensor.shape):
            setattr(found.place.module, found.place.attribute, _empty(found.layer))
            coded[layer.name] = module
    return coded


def _replaceable(model: PreTrainedModel) -> dict[str, Replaceable]:
    """Return the layers with a single weight that a layer on codes can replace, by name."""
    tied = {name for pair in model.all_tied_weights_keys.items() for name in pair}
    # Layers that stay in float32 in a model of a smaller dtype: the code around them reads their weight.
    kept = (*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ()))
    patterns = [] if model.dtype == torch.float32 else [pattern.replace("*", ".*") for pattern in kept]
    return {
        found.place.name: found
        for found in replaceable_layers(model, model_tensors(model))
        if "weight" in found.weights
        and f"{found.place.name}.weight" not in tied
        and not any(re.search(pattern, found.place.name) for pattern in patterns)
    }


def buffer_names(weight: str) -> tuple[str, ...]:
    """Return the names for the buffers of a layer on codes, given the name of its weight in a file."""
    return tuple(f"{weight.removesuffix('weight')}{buffer}" for buffer in BUFFERS)


def _empty(layer: nn.Module) -> CodedWeight:
    made: CodedWeight
    if isinstance(layer, nn.Embedding):
        sizes = layer.num_embeddings, layer.embedding_dim, layer.padding_idx
        made = HyperEmbedding(*sizes, device="meta", dtype=layer.weight.dtype)
    else:
        assert isinstance(layer, nn.Linear)  # attention has several weights
        made = HyperLinear(layer.in_features, layer.out_features, layer.bias is not None, "meta", layer.weight.dtype)
    # Else transformers draws a random weight, as for every layer whose weight was not loaded.
    made._is_hf_initialized = True  # type: ignore[assignment]
    return made
