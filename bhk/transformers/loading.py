"""Loading: the steps of `from_pretrained` that differ when the weights are in a .bhk file."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from bhk.base.errors import listed, shown
from bhk.base.names import BHK_SUFFIX
from bhk.base.parallel import ordered_map, worker_count
from bhk.base.strict_json import parse_object
from bhk.checkpoint.companions import CONFIG
from bhk.codec.dtypes import TORCH_DTYPES
from bhk.container.header import LayerEntry
from bhk.container.reader import Container
from bhk.file.bhkfile import BhkFile
from bhk.kernels.resident import make_resident
from bhk.nn.coded import BUFFERS
from bhk.nn.errors import MismatchError
from bhk.nn.plan import named_tensors
from bhk.transformers.errors import OffloadError, RepositoryError
from bhk.transformers.names import find_names
from bhk.transformers.quantizer import METHOD, BhkQuantizer, Loaded, buffer_names

Function = Callable[..., Any]

_WHERE = ("cache_dir", "token", "revision", "subfolder")
_QUIETLY = dict.fromkeys(
    (
        "_raise_exceptions_for_gated_repo",
        "_raise_exceptions_for_missing_entries",
        "_raise_exceptions_for_connection_errors",
    ),
    False,
)


def load_config(original: Function) -> Function:
    """Return transformers' loading of a configuration, extended to the part of a repository's configuration.

    transformers takes the configuration of a part, such as the detector of a `Sam3VideoModel`, from that of the whole, which
    alone names the .bhk file.
    """

    @functools.wraps(original)
    def from_pretrained(cls: type[Any], folder: Any, *args: Any, **options: Any) -> Any:
        found = original(cls, folder, *args, **options)
        config = found[0] if isinstance(found, tuple) else found
        if getattr(config, "quantization_config", None) is None:
            whole = _repository_config(
                folder, {name: options[name] for name in _WHERE if options.get(name) is not None}
            )
            quantization = whole.get("quantization_config")
            if isinstance(quantization, dict) and quantization.get("quant_method") == METHOD:
                config.quantization_config = {**quantization, "part": True}
                config.transformers_weights = whole.get("transformers_weights")
        return found

    return from_pretrained


def find_file(original: Function) -> Function:
    """Return transformers' search for weight files, extended to names that end in .bhk."""

    @functools.wraps(original)
    def resolve(*args: Any, **options: Any) -> Any:
        name = options.get("transformers_explicit_filename")
        if not isinstance(name, str) or not name.endswith(BHK_SUFFIX):
            if name is None and options.get("pretrained_model_name_or_path") is not None:
                _refuse_parts(options["pretrained_model_name_or_path"], options.get("download_kwargs") or {})
            return original(*args, **options)
        if Path(name).name != name or "\\" in name:  # the name comes from a config.json
            raise RepositoryError(
                f"transformers_weights {shown(name)!r} is not a plain file name; expected one such as 'model.bhk'"
            )
        folder = options["pretrained_model_name_or_path"]
        path = cached_file(folder, name, user_agent=options.get("user_agent"), **(options.get("download_kwargs") or {}))
        return [path], _Metadata(path)

    return resolve


def _refuse_parts(folder: Any, options: Mapping[str, Any]) -> None:
    """Raise an error if the repository's config.json names a .bhk file, but the configuration in use does not.

    That happens when part of a model is loaded with a configuration of its own. transformers would then take any dense weights
    in the repository, which may be older.
    """
    config = _repository_config(folder, options)
    name = config.get("transformers_weights")
    if isinstance(name, str) and name.endswith(BHK_SUFFIX):
        kinds = config.get("architectures")
        whole = listed(kinds) if isinstance(kinds, list) and kinds else "whole model"
        raise RepositoryError(
            f"{shown(str(folder))} holds a {whole} in {shown(name)!r}, but another class or configuration is being loaded; "
            "load the whole model with its own config.json, and take the part from it"
        )


def _repository_config(folder: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the repository's config.json, which transformers has just read; an empty one if there is none."""
    here = {**options, "local_files_only": True, "force_download": False}
    try:
        path = cached_file(folder, CONFIG, **here, **_QUIETLY)
        return {} if path is None else parse_object(Path(path).read_bytes())
    except (OSError, ValueError):  # not a repository of ours; transformers reports what is wrong
        return {}


class _Metadata(dict[str, str]):
    """What transformers takes from an index of shards: the meaning of dtype="auto" where config.json has no dtype.

    The file is opened only if transformers asks.
    """

    def __init__(self, path: str) -> None:
        super().__init__(dtype="")
        self._path = path

    def __getitem__(self, key: str) -> str:
        """Return torch's name of the first floating-point dtype in the file."""
        with Container.open(self._path) as container:
            dtypes = (TORCH_DTYPES[layer.dtype] for layer in container.layers)
            return str(next((d for d in dtypes if d.is_floating_point), torch.float32)).removeprefix("torch.")


def load_weights(original: Function) -> Function:
    """Return transformers' loading of weights into a model on the meta device, extended to .bhk files."""

    @functools.wraps(original)
    def load(
        model: PreTrainedModel,
        state_dict: dict[str, Tensor] | None,
        checkpoint_files: list[str] | None,
        load_config: Any,
        *args: Any,
        **options: Any,
    ) -> Any:
        if state_dict is not None or not checkpoint_files or not checkpoint_files[0].endswith(BHK_SUFFIX):
            return original(model, state_dict, checkpoint_files, load_config, *args, **options)
        quantizer = load_config.hf_quantizer
        name = Path(checkpoint_files[0]).name
        if not isinstance(quantizer, BhkQuantizer):
            raise RepositoryError(
                f'the config.json beside {name} lacks "quantization_config": {{"quant_method": "bhk"}}'
            )
        if "disk" in (load_config.device_map or {}).values():
            raise OffloadError(
                f"part of {type(model).__name__} would be offloaded to the disk, which does not work with {BHK_SUFFIX} files; "
                "use another device_map, or a larger max_memory"
            )
        with quantizer.loaded.take_file() as file:
            file.check_size()
            tensors = _decode(model, file, quantizer.loaded, load_config.weight_mapping)
        expected = _shapes(model)
        result = original(model, tensors, checkpoint_files, load_config, *args, **options)
        _check_complete(model, result[0], name, expected, is_part=quantizer.is_part)
        return result

    return load


def _decode(model: PreTrainedModel, file: BhkFile, loaded: Loaded, conversions: Any) -> dict[str, Tensor]:
    """Return a state dict with the file's names, where the buffers of each layer on codes replace its weight.

    The layers get empty buffers of the same shapes, and `loaded` gets the mapping of names.
    """
    buffers = {name: buffer_names(name) for name in loaded.coded}
    names = {*file.names, *(name for held in buffers.values() for name in held)}
    loaded.naming = find_names(model, model.state_dict().keys(), names, conversions or ())

    def tensors(layer: LayerEntry) -> dict[str, Tensor]:
        if layer.name in buffers:
            return dict(zip(buffers[layer.name], resident_buffers(file, layer).values(), strict=True))
        every = (layer.name, *layer.aliases)
        used = any(map(loaded.naming.is_used, every))
        return dict.fromkeys(every, file.tensor(layer.name) if used else torch.empty(0))

    state: dict[str, Tensor] = {}
    for layer, found in zip(file.layers, ordered_map(tensors, file.layers, worker_count(None)), strict=True):
        state |= found
        if layer.name in buffers:
            module = model.get_submodule(loaded.coded[layer.name])
            for buffer, tensor in zip(BUFFERS, found.values(), strict=True):
                setattr(module, buffer, torch.empty_like(tensor, device="meta"))
    return state


def resident_buffers(file: BhkFile, layer: LayerEntry) -> dict[str, Tensor]:
    """Return the buffers, by name, of the layer on codes whose weight is `layer`.

    Raises:
        StreamHashError, ChunkDataError, CodeRangeError: the streams are damaged (rules D2 to D4).
    """
    codebook, codes = file.codebook(layer.name), file.planes(layer.name)
    assert codebook is not None  # the caller passes coded layers only
    assert codes is not None
    held = make_resident(codebook, codes, *layer.shape)
    return {buffer: getattr(held, buffer) for buffer in BUFFERS}


def _shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_complete(
    model: PreTrainedModel, found: Any, file: str, expected: dict[str, tuple[int, ...]], *, is_part: bool
) -> None:
    """Raise an error where transformers would initialise tensors at random, or drop tensors of the file.

    Args:
        found: transformers' LoadStateDictInfo.
        expected: the shapes of the model before it was loaded. Versions up to 5.20 put a tensor of another shape into
            a quantized model, and do not report it.
        is_part: whether the model is a part of the one in the file, which holds more tensors then.

    Raises:
        MismatchError: names or shapes of file and model differ.
    """
    info = copy.copy(found)
    model._adjust_missing_and_unexpected_keys(info)  # removes what transformers knows to be harmless
    tied = model.all_tied_weights_keys.items()
    settled = {name for pair in tied for name in pair if not info.missing_keys.issuperset(pair)}
    missing = tuple(sorted(info.missing_keys - settled))
    unexpected = () if is_part else tuple(sorted(info.unexpected_keys))
    reported = {(name, tuple(stored), tuple(wanted)) for name, stored, wanted in info.mismatched_keys}
    loaded = {(name, shape, expected.get(name, shape)) for name, shape in _shapes(model).items()}
    differing = sorted(reported | {entry for entry in loaded if entry[1] != entry[2]})
    faults = [f"{named_tensors(missing)} of the model not in the file"] if missing else []
    if unexpected:
        faults.append(f"{named_tensors(unexpected)} of the file not in the model")
    if differing:
        name, stored, wanted = differing[0]
        names = tuple(name for name, *_ in differing)
        shapes = f"{name} is {list(stored)} in the file, {list(wanted)} in the model"
        faults.append(f"{named_tensors(names)} of another shape: {shapes}")
    if not faults:
        return
    kinds = model.config.architectures or ()
    if kinds and type(model).__name__ not in kinds:
        faults.append(f"the file holds a {listed(kinds)}; load it with that class")
    raise MismatchError(
        f"{file} does not fit {type(model).__name__}: {'; '.join(faults)}",
        missing,
        unexpected,
        tuple(name for name, *_ in differing),
    )
