"""A weight held as codes: what the layers that hold one have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from bhk.codec.codebook import Codebook, Codes
from bhk.kernels import operators as operators  # registers torch.ops.bhk
from bhk.kernels.attention import is_for_onnx
from bhk.kernels.onednn import packed_bytes
from bhk.kernels.resident import Resident, find_fault, make_resident
from bhk.nn.decoded_weight import decoded_weight
from bhk.nn.device import Device
from bhk.nn.errors import HyperLinearError
from bhk.nn.precision import Dtype, floating_dtype

BUFFERS = ("codes", "codebook", "outliers", "outlier_starts", "far")
_LISTS = {
    "outliers": (0, 3),
    "far": (0,),
}  # buffers that may be empty, of these shapes, and are not in the state dict then


class CodedWeight(nn.Module):
    """Base class of layers whose weight (rows, columns) is held as codes.

    A layer whose weight is written to (`nn.init`, merging of adapters, `layer.weight.data += …`, a parameter in its place)
    becomes torch's layer of the same kind, and holds what was written.

    >>> layer = bhk.nn.HyperLinear.from_linear(torch.nn.Linear(768, 256))
    >>> isinstance(layer, bhk.nn.CodedWeight), tuple(layer.weight.shape)
    (True, (256, 768))

    Attributes:
        codes, codebook, outliers, outlier_starts, far: buffers, see `bhk.kernels.resident.Resident`.
    """

    dense_class: ClassVar[type[nn.Module]]  # torch's layer of the same kind

    codes: Tensor
    codebook: Tensor
    outliers: Tensor
    outlier_starts: Tensor
    far: Tensor

    def __init__(self, rows: int, columns: int, device: Device | None, dtype: Dtype | None) -> None:
        """Hold a weight near zero, ready for `load_state_dict`."""
        nn.Module.__init__(self)  # those of torch's layers make a weight
        self._shape = rows, columns
        self._dtype = torch.get_default_dtype() if dtype is None else floating_dtype(dtype)
        self.register_buffer("codes", torch.zeros(rows, 2 * ((columns + 1) // 2), dtype=torch.int8, device=device))
        codebook = torch.tensor([0.0, 0.0, 1.0, 256.0, 0.0, 0.0, 1.0], dtype=torch.float32, device=device)
        self.register_buffer("codebook", codebook)
        for name, shape in (("outliers", (0, 3)), ("outlier_starts", ((rows + 15) // 16 + 1,)), ("far", (0,))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.int32, device=device))

    def hold(self, codebook: Codebook, codes: Codes) -> None:
        """Hold the weight that `codes` give, which are paired row by row, on their device."""
        resident = make_resident(codebook, codes, *self._shape)
        for name in BUFFERS:
            setattr(self, name, getattr(resident, name))

    def dense_weight(self, dtype: Dtype = torch.float32) -> Tensor:
        """Return the decoded weight (rows, columns). In float32 it equals the file's decoded tensor bit for bit.

        Raises:
            LoadOptionError: `dtype` is not a floating-point dtype.
        """
        weight: Tensor = torch.ops.bhk.decode(
            self.codes, self.codebook, self.outliers, self._shape[1], floating_dtype(dtype)
        )
        return weight

    @property
    def weight(self) -> Tensor:
        """The decoded weight in the layer's dtype, decoded at each access. Writing to it makes the layer dense."""
        with torch.inference_mode(False):  # that mode does not count writes
            weight = decoded_weight(self.dense_weight(self._dtype), self.hold_dense)
        # transformers asks tensors, not layers, before it draws random weights.
        weight._is_hf_initialized = getattr(self, "_is_hf_initialized", False)  # type: ignore[attr-defined]
        return weight

    @weight.setter
    def weight(self, value: object) -> None:
        raise HyperLinearError(
            f"only a torch.nn.Parameter can take the place of a weight held as codes, not {type(value).__name__}"
        )

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Register a parameter as modules do; one that is called "weight" takes the place of the codes."""
        if name == "weight" and param is not None:
            self.hold_dense(param)
        else:
            super().register_parameter(name, param)

    def hold_dense(self, weight: nn.Parameter) -> None:
        """Become torch's layer of the same kind with this weight (rows, columns), in place, and forget the codes.

        Raises:
            HyperLinearError: the layer is dense already, so the weight is that of codes which are gone.
        """
        if not isinstance(self, CodedWeight):
            raise HyperLinearError("the layer has another weight since this one was read; read layer.weight again")
        for name in BUFFERS:
            delattr(self, name)
        for name in ("_shape", "_dtype", "compute"):
            vars(self).pop(name, None)
        self.__class__ = self.dense_class  # type: ignore[assignment]  # as torch's lazy modules do
        others = dict(self._parameters)
        self._parameters.clear()
        self._parameters.update({"weight": weight, **others})  # in torch's order

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of `weight`, and of what the layer computes."""
        return self._dtype

    @property
    def bits_per_weight(self) -> float:
        """Bits in memory for each weight, counting everything except a bias.

        On an x86 CPU, the first product of integers adds a copy of the codes in the order that oneDNN wants.
        """
        held = packed_bytes(self.codes) + sum(int(getattr(self, name).nbytes) for name in BUFFERS)
        return 8 * held / max(self._shape[0] * self._shape[1], 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CodedWeight:
        """Move and cast as modules do; only the buffers of the weight keep their own dtypes."""
        held = {name: getattr(self, name) for name in BUFFERS}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in held.items():
            after = getattr(self, name)
            if after.dtype != before.dtype:
                setattr(self, name, before.to(after.device))
        self._dtype = fn(torch.empty(0, dtype=self._dtype, device=held["codes"].device)).dtype
        return self

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """Leave out empty lists, because programs that look for shared memory take all empty tensors for one."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in _LISTS:
            tensor = destination[prefix + name]
            if not tensor.numel() and not tensor.is_meta:
                del destination[prefix + name]

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Check the buffers from outside, and make room for another class of codes and number of outliers."""
        if isinstance(codes := state_dict.get(prefix + "codes"), Tensor):
            for name, shape in _LISTS.items():
                state_dict.setdefault(prefix + name, codes.new_empty(shape, dtype=torch.int32))
        found = {name: state_dict.get(prefix + name) for name in BUFFERS}
        tensors = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor) and not tensor.is_meta}
        if len(tensors) == len(BUFFERS):
            fault = find_fault(Resident(**tensors), *self._shape)
            if fault is not None:
                error_msgs.append(f"{prefix.rstrip('.') or type(self).__name__} cannot hold {fault}")
                return
            for name, tensor in tensors.items():
                setattr(self, name, torch.empty_like(tensor, device=getattr(self, name).device))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def is_transformed() -> bool:
    """Return whether bhk's operators do not serve: in forward mode, under torch.func, or where operations are counted."""
    if torch.compiler.is_compiling():
        return False
    is_counted = torch._C._len_torch_dispatch_stack() > 0 and any(
        type(mode).__module__ == "torch.utils.flop_counter" for mode in _get_current_dispatch_mode_stack()
    )
    return is_counted or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def refuse_onnx() -> None:
    """Raise an error if torch.onnx.export is at work.

    Raises:
        HyperLinearError: it is.
    """
    is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    if is_recorded and is_for_onnx():
        raise HyperLinearError(
            "ONNX has no layers on codes; export a model that was loaded with bhk.load(…, mode='dense'), "
            "or call bhk.nn.to_dense(model) first"
        )
