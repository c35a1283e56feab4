"""A linear layer whose weight is held as codes."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.codec.codebook import Codebook, Codes
from bhk.codec.tensor import encode
from bhk.nn.coded import CodedWeight, is_transformed, refuse_onnx
from bhk.nn.device import Device
from bhk.nn.errors import HyperLinearError
from bhk.nn.precision import Dtype

Compute = Literal["exact", "int8"]


class HyperLinear(CodedWeight, nn.Linear):
    """y = x @ W.T + b, with W held as codes and decoded while it is multiplied. It behaves like `torch.nn.Linear`.

    Make one with `from_codes` or `from_linear`, or let `bhk.load` do it. The constructor alone makes a layer with weights near
    zero, ready for `load_state_dict`. Gradients reach the input and the bias; the weight itself is fixed. A layer whose weight
    is written to becomes an `nn.Linear`.

    >>> layer = bhk.nn.HyperLinear.from_linear(torch.nn.Linear(768, 256))
    >>> layer(torch.ones(4, 768)).shape
    torch.Size([4, 256])

    Source: Birkhoff ("Compress Any Segment Anything Model", 2025) for the trajectory; `bhk.kernels.resident` for the identity
    that makes the product one with small integers.

    Args:
        in_features, out_features, bias, device: as in `torch.nn.Linear`.
        dtype: dtype of inputs, outputs and bias: float64, float32, float16 or bfloat16; None is torch's default dtype.
        compute: see the attribute.

    Attributes:
        in_features, out_features: as in `torch.nn.Linear`.
        compute: "exact", or "int8", which rounds inputs of many rows to 8 bits row by row and multiplies integers.
        codes, codebook, outliers, outlier_starts, far: buffers, see `bhk.kernels.resident.Resident`.
        bias: parameter (out_features,) or None.

    Raises:
        LoadOptionError: `dtype` is not a floating-point dtype.
        HyperLinearError: `compute` is unknown.
    """

    dense_class: ClassVar = nn.Linear

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Device | None = None,
        dtype: Dtype | None = None,
        *,
        compute: Compute = "exact",
    ) -> None:
        super().__init__(out_features, in_features, device, dtype)
        self.in_features, self.out_features = in_features, out_features
        self.compute = _check_compute(compute)
        held = nn.Parameter(torch.zeros(out_features, device=device, dtype=self._dtype)) if bias else None
        self.register_parameter("bias", held)

    @classmethod
    def from_codes(
        cls,
        codebook: Codebook,
        codes: Codes,
        in_features: int,
        out_features: int,
        bias: Tensor | None = None,
        *,
        dtype: Dtype = torch.float32,
        compute: Compute = "exact",
    ) -> HyperLinear:
        """Return the layer whose weight (out_features, in_features) is given by codes that are paired row by row.

        >>> with bhk.open("demo_sam.bhk") as file:
        ...     codebook, codes = (get("image_encoder.blocks.0.attn.proj.weight") for get in (file.codebook, file.planes))
        >>> bhk.nn.HyperLinear.from_codes(codebook, codes, 192, 192)
        HyperLinear(in_features=192, out_features=192, bias=False, bits_per_weight=8.02, compute=exact)

        Args:
            codes: planes of out_features * ceil(in_features / 2) pairs; the layer is on their device.
            bias: (out_features,) or None; converted to `dtype`.
            dtype: dtype of inputs, outputs and bias: float64, float32, float16 or bfloat16.

        Raises:
            LoadOptionError, HyperLinearError: see the class.
        """
        layer = cls(in_features, out_features, bias is not None, "meta", dtype, compute=compute)
        layer.hold(codebook, codes)
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().to(codes.winding.device, layer._dtype))
        return layer

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        preset: str = "balanced",
        *,
        snr_db: float | None = None,
        step: float | None = None,
        compute: Compute = "exact",
    ) -> HyperLinear:
        """Return a layer with the weight of `linear`, which is encoded by itself; see `bhk.encode` for the options.

        >>> layer = bhk.nn.HyperLinear.from_linear(torch.nn.Linear(768, 256), compute="int8")
        >>> layer.dense_weight().shape
        torch.Size([256, 768])

        Raises:
            HyperLinearError: the weight cannot be encoded (NaN, infinity), or would not get smaller.
            PresetError: see `bhk.encode`.
        """
        encoded = encode(linear.weight, preset, snr_db=snr_db, step=step)
        if encoded.codebook is None or encoded.planes is None:
            raise HyperLinearError(f"the weight of {linear} {encoded.note or 'takes less exact'}; keep it an nn.Linear")
        layer = cls.from_codes(
            encoded.codebook,
            encoded.planes,
            linear.in_features,
            linear.out_features,
            linear.bias,
            dtype=linear.weight.dtype,
            compute=compute,
        )
        if layer.bias is not None:  # a copy, because the caller keeps `linear`
            layer.bias = nn.Parameter(layer.bias.detach().clone(), linear.bias.requires_grad)
        return layer.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return x @ W.T + b, (..., out_features), for an input x (..., in_features) of the layer's dtype."""
        held = self.codes, self.codebook, self.outliers, self.outlier_starts, self.far
        return _product(input, self.in_features, self._dtype, held, self.bias, self.compute)

    def to_linear(self) -> nn.Linear:
        """Return an `nn.Linear` with the decoded weight and a copy of the bias."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, "meta", self._dtype)
        linear.weight = nn.Parameter(self.dense_weight(self._dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone(), self.bias.requires_grad)
        return linear.train(self.training)

    @property
    def is_lattice(self) -> bool:
        """Whether products use the codes as integers; otherwise every product decodes the weight first."""
        return self.codes.dtype == torch.int8

    def extra_repr(self) -> str:
        """Return the text inside the brackets of `repr`."""
        compute = self.compute if self.is_lattice else "decoded"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits_per_weight={self.bits_per_weight:.2f}, compute={compute}"
        )


@torch.fx.wrap  # one step for torch.fx, which cannot follow it
def _product(
    x: Tensor, width: int, dtype: torch.dtype, held: tuple[Tensor, ...], bias: Tensor | None, compute: Compute
) -> Tensor:
    """Return x @ W.T + b for x (..., width) of a layer of `dtype` that holds the buffers `held`."""
    # Autocast does not touch float64, and does not exist on the meta device.
    if x.dtype != torch.float64 and not x.is_meta and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, bias = x.to(dtype), None if bias is None else bias.to(dtype)
    if x.dtype != dtype or x.shape[-1:] != (width,):
        raise HyperLinearError(
            f"input of shape {tuple(x.shape)} and {x.dtype}; this layer takes (..., {width}) and {dtype}"
        )
    refuse_onnx()
    if is_transformed():
        codes, codebook, outliers, *_ = held
        return functional.linear(x, torch.ops.bhk.decode(codes, codebook, outliers, width, dtype), bias)
    y: Tensor = torch.ops.bhk.hyper_linear(x, *held, bias, compute)
    return y


def _check_compute(compute: str) -> Compute:
    if compute not in get_args(Compute):
        raise HyperLinearError(f"compute {compute!r}; choose one of {', '.join(get_args(Compute))}")
    return compute  # type: ignore[return-value]
