"""Saving: `save_pretrained` of a model that came from a .bhk file writes a .bhk file again.

Nothing is encoded again. Tensors that are unchanged are copied from the file stream by stream, with codebook and measured
error; tensors that changed are stored exactly.
"""

from __future__ import annotations

import functools
import inspect
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedModel

from bhk.base.errors import listed
from bhk.base.files import ReadError, check_destination, made_folder, replace_files
from bhk.base.names import MODEL_FILE
from bhk.base.parallel import ordered_map, worker_count
from bhk.checkpoint.companions import CONFIG, KEY, has_companions
from bhk.codec.dtypes import DTYPE_NAMES
from bhk.codec.tensor import keep
from bhk.container.header import LayerEntry, to_json
from bhk.container.header_size import max_header_size
from bhk.container.writer import ContainerWriter
from bhk.file.bhkfile import BhkFile, open_file
from bhk.nn.coded import BUFFERS, CodedWeight
from bhk.nn.plan import named_tensors
from bhk.transformers.errors import SaveError
from bhk.transformers.loading import resident_buffers
from bhk.transformers.quantizer import METHOD, BhkQuantizer, Loaded

_UNSUPPORTED = {
    "push_to_hub": "call model.push_to_hub(repository), or save it and run `bhk push`",
    "state_dict": "the tensors come from the model; leave it out",
    "variant": f"the file is always called {MODEL_FILE}; leave it out",
    "distributed_checkpoint": "leave it out",
}


def save(original: Callable[..., None]) -> Callable[..., None]:
    """Return transformers' `save_pretrained`, extended to models that came from a .bhk file."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def save_pretrained(model: PreTrainedModel, *args: Any, **options: Any) -> None:
        quantizer = getattr(model, "hf_quantizer", None)
        only_adapters = getattr(model, "_hf_peft_config_loaded", False)
        if not isinstance(quantizer, BhkQuantizer) or only_adapters:
            return original(model, *args, **options)
        call = signature.bind(model, *args, **options)
        for name, advice in _UNSUPPORTED.items():
            if call.arguments.get(name):
                raise SaveError(f"save_pretrained(…, {name}=…) does not work for a .bhk file; {advice}")
        folder = Path(call.arguments["save_directory"])
        with tempfile.TemporaryDirectory(prefix="bhk-") as scratch:
            call.arguments["save_directory"] = scratch
            original(*call.args, **call.kwargs)  # everything except the weights
            if call.arguments.get("is_main_process", True):
                _write_folder(model, quantizer.loaded, Path(scratch), folder, is_part=quantizer.is_part)
        return None

    return save_pretrained


def _write_folder(model: PreTrainedModel, loaded: Loaded, scratch: Path, folder: Path, *, is_part: bool) -> None:
    """Write model.bhk, and then the files that transformers has written to `scratch`."""
    if is_part:
        raise SaveError(
            f"{type(model).__name__} is only a part of the model in {loaded.path.name}; save the whole model, or call "
            "model.dequantize() and save the dense part"
        )
    with made_folder(folder, parents=True):
        _write_into(model, loaded, scratch, folder)


def _write_into(model: PreTrainedModel, loaded: Loaded, scratch: Path, folder: Path) -> None:
    others = sorted(path.name for path in folder.iterdir() if has_companions(path.name))
    if others:
        raise SaveError(
            f"{folder} holds {listed(others, 3)}, and transformers would load those older weights; save to another folder"
        )
    config = json.loads((scratch / CONFIG).read_text(encoding="utf-8"))
    config.pop("quantization_config", None)
    check_destination(folder / MODEL_FILE, force=True)
    described = {"quant_method": METHOD, "file": MODEL_FILE}
    complete = config | {"quantization_config": described, "transformers_weights": MODEL_FILE}
    (scratch / CONFIG).write_text(json.dumps(complete, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    with replace_files() as new:
        _write_file(model, loaded, config, new.open(folder / MODEL_FILE))
        for path in sorted(scratch.iterdir()):
            if path.is_file() and path.suffix != ".safetensors":  # it holds no tensors
                new.open(folder / path.name).write(path.read_bytes())


def _write_file(model: PreTrainedModel, loaded: Loaded, config: Mapping[str, Any], file: BinaryIO) -> None:
    if loaded.naming.fused:
        names = sorted(loaded.naming.fused)
        raise SaveError(
            f"transformers converted {named_tensors(names)} of {loaded.path.name} into others, which cannot be written back; "
            "call model.dequantize() and save the dense model"
        )
    try:
        source = open_file(loaded.path)
    except ReadError as error:
        raise SaveError(
            f"the file that the model came from is gone ({error}), but its codes are copied from there; put it back, or "
            "call model.dequantize() and save the dense model"
        ) from None
    with source:
        changed = _changed(model, loaded, source)
        header = source.container.header
        layers = [_outline(layer, changed.get(layer.name)) for layer in header.layers]
        metadata = dict(header.metadata)
        if KEY + CONFIG in metadata:
            metadata[KEY + CONFIG] = json.dumps(config, separators=(",", ":"))
        outline = msgspec.structs.replace(header, layers=tuple(layers), metadata=metadata)
        writer = ContainerWriter(file, max_header_size(outline) + len(to_json(header)))
        written = tuple(_write_layer(writer, source, layer, changed.get(layer.name)) for layer in outline.layers)
        writer.finish(msgspec.structs.replace(outline, layers=written))


def _outline(layer: LayerEntry, tensor: Tensor | None) -> LayerEntry:
    """Return the entry of `layer`, or an exact entry without streams if it takes the values of `tensor`."""
    if tensor is None:
        return layer
    dtype, shape = DTYPE_NAMES[tensor.dtype], tuple(tensor.shape)
    return LayerEntry(layer.name, shape, dtype, layer.role, "exact", aliases=layer.aliases)


def _write_layer(writer: ContainerWriter, source: BhkFile, layer: LayerEntry, tensor: Tensor | None) -> LayerEntry:
    if tensor is not None:
        return msgspec.structs.replace(layer, streams=writer.write(keep(tensor).streams))
    streams = (writer.copy(stream, source.container.read_stream(layer, stream)) for stream in layer.streams)
    return msgspec.structs.replace(layer, streams=tuple(streams))


def _changed(model: PreTrainedModel, loaded: Loaded, source: BhkFile) -> dict[str, Tensor]:
    """Return the tensors of `model` that differ from the file, by their names in the file.

    Raises:
        SaveError: model and file have different tensors, or some of the model's are offloaded.
    """
    state = model.state_dict()
    _check_names(model, loaded, state)
    found = ordered_map(partial(_difference, model, loaded, state, source), source.layers, worker_count(None))
    return {layer.name: tensor for layer, tensor in zip(source.layers, found, strict=True) if tensor is not None}


def _check_names(model: PreTrainedModel, loaded: Loaded, state: Mapping[str, Tensor]) -> None:
    """Raise an error for tensors of the model that have no name in the file, or no data."""
    empty = [name for name, tensor in state.items() if tensor.is_meta]
    if empty:
        raise SaveError(
            f"{named_tensors(empty)} of the model without data, perhaps offloaded; load it without offloading to save it"
        )
    known = {*loaded.naming.places.values(), *(f"{module}.weight" for module in loaded.coded.values())}
    for target, other in model.all_tied_weights_keys.items():
        for name, twin in ((target, other), (other, target)):
            if twin in known and name in state and torch.equal(state[name], state[twin]):
                known.add(name)
    added = [name for name in state if name not in known]
    if added:
        raise SaveError(
            f"{named_tensors(added)} of the model not in {loaded.path.name}, from which it came; remove what was added, or "
            "call model.dequantize() and save the dense model"
        )


def _difference(
    model: PreTrainedModel, loaded: Loaded, state: Mapping[str, Tensor], source: BhkFile, layer: LayerEntry
) -> Tensor | None:
    """Return the model's tensor for `layer`, or None if it equals the file's or the model does not use it."""
    module = model.get_submodule(loaded.coded[layer.name]) if layer.name in loaded.coded else None
    if isinstance(module, CodedWeight):
        held = resident_buffers(source, layer)
        if not all(torch.equal(getattr(module, buffer).cpu(), held[buffer]) for buffer in BUFFERS):
            raise SaveError(f"the codes of {layer.name} differ from those in {loaded.path.name}; load the model again")
        return None
    places = [loaded.naming.places[name] for name in (layer.name, *layer.aliases) if name in loaded.naming.places]
    if module is not None:
        places = [f"{loaded.coded[layer.name]}.weight"]
    if not places:
        return None
    tensors = [state[place].cpu() for place in places if place in state]
    if len(tensors) < len(places) or not all(torch.equal(tensor, tensors[0]) for tensor in tensors):
        raise SaveError(f"{', '.join(places)}: no longer in the model, or no longer one tensor; load the model again")
    stored = source.tensor(layer.name)
    same = stored.shape == tensors[0].shape and torch.equal(stored.to(tensors[0].dtype), tensors[0])
    return None if same else tensors[0].contiguous()
