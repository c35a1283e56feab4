"""The operators on a GPU, compared with the codec and float64. Only the tests of torch's settings need no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bhk.codec.trajectory import Lattice
from bhk.kernels import operators as operators
from bhk.kernels.gpu import float32_precision, gpu_of

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
_DEVICE = "cuda"
_DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
_LIMITS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}
_CLASSES = {
    "plain": (256, 0, 0, "centred"),
    "outliers": (255, 9, 40, "centred"),
    "grid": (256, 0, 0, "grid"),
    "narrow": (35, 3, 2000, "corner"),
    "wide": (256, 255, 2000, "centred"),
}


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(("setting", "words"), [("highest", "ieee"), ("high", "tf32"), ("medium", "tf32")])
def test_precision_of_float32_follows_torch(setting: str, words: str) -> None:
    torch.set_float32_matmul_precision(setting)
    assert float32_precision() == words


def test_precision_can_be_set_for_gpus_only() -> None:
    for setting in ("tf32", "ieee"):
        torch.backends.cuda.matmul.fp32_precision = setting
        assert float32_precision() == setting


def _draw(weight, *leading: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(leading))
    x = torch.randn(*leading, weight.width, generator=generator) + 0.2
    return x.to(_DEVICE, dtype), torch.randn(weight.out, generator=generator).to(_DEVICE, dtype)


def _linear(x: Tensor, weight, bias: Tensor | None, compute: str = "exact") -> Tensor:
    return torch.ops.bhk.hyper_linear(x, *weight.operands, bias, compute)


class TestOnGpu:
    pytestmark = on_gpu

    @pytest.fixture(autouse=True)
    def _likeliest(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Use the first tile without measuring: compiling all tiles for every shape here would take ten minutes."""
        from bhk.kernels import tuning

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(tuning, "_chosen", {})
        self.measure = tuning._measure
        monkeypatch.setattr(tuning, "_measure", lambda gpu, problem, tiles, launch: tiles[0])

    @pytest.fixture
    def weight_of(self, random_weight):
        def make(kind: str, out: int, width: int, seed: int = 0, outliers: int | None = None):
            windings, shells, most, lattice = _CLASSES[kind]
            share = 512 if kind == "outliers" else 8  # a lattice holds few
            count = min(most, out * width // share) if outliers is None else outliers
            return random_weight(out, width, windings, shells, outliers=count, lattice=lattice, seed=seed).to(_DEVICE)

        return make

    @pytest.mark.parametrize("kind", list(_CLASSES))
    @pytest.mark.parametrize(("out", "width"), [(1, 1), (7, 2), (130, 515), (1281, 1279)])
    @pytest.mark.parametrize("dtype", _DTYPES)
    def test_decode_is_the_codec_bit_for_bit(
        self, weight_of, poison, kind: str, out: int, width: int, dtype: torch.dtype
    ) -> None:
        weight = weight_of(kind, out, width)
        decoded = torch.ops.bhk.decode(*weight.decode_operands, width, dtype)
        assert decoded.dtype == dtype
        assert torch.equal(decoded.cpu(), weight.to("cpu").dense.to(dtype))

    @pytest.mark.parametrize("windings", [1, 2, 3, 35, 64, 127, 128, 200, 255, 256])
    @pytest.mark.parametrize("shells", [0, 1, 255])
    @pytest.mark.parametrize("lattice", ["centred", "corner", "grid"])
    def test_every_codebook_decodes_bit_for_bit(
        self, random_weight, windings: int, shells: int, lattice: Lattice
    ) -> None:
        for outliers in {0, 3, 800} if shells else {0}:
            here = random_weight(41, 99, windings, shells, outliers=outliers, lattice=lattice)
            there = here.to(_DEVICE)
            decoded = torch.ops.bhk.decode(*there.decode_operands, 99, torch.float32)
            assert torch.equal(decoded.cpu(), here.dense)

    @pytest.mark.parametrize("kind", ["plain", "outliers", "grid", "wide"])
    @pytest.mark.parametrize(("out", "width"), [(1, 1), (65, 33), (256, 1281), (1280, 1280)])
    @pytest.mark.parametrize("dtype", _DTYPES)
    def test_products_are_exact(
        self, relative, weight_of, poison, kind: str, out: int, width: int, dtype: torch.dtype
    ) -> None:
        weight = weight_of(kind, out, width)
        for rows in (1, 2, 16, 17, 48, 49, 130, 700):
            x, bias = _draw(weight, rows, dtype=dtype)
            for given in (bias, None):
                y, exact = _linear(x, weight, given), weight.product(x, given)
                limit = {torch.float32: 1e-6, torch.float64: 1e-12}.get(dtype)
                if limit is None:
                    limit = 1e-4 + 1.2 * relative(functional.linear(x, weight.dense.to(dtype), given), exact)
                assert (y.shape, y.dtype) == ((rows, out), dtype)
                assert relative(y, exact) <= limit, rows

    @pytest.mark.parametrize("kind", ["plain", "outliers", "grid"])
    @pytest.mark.parametrize(("out", "width"), [(1, 1), (65, 33), (130, 1281), (1280, 1280)])
    @pytest.mark.parametrize("dtype", _DTYPES[:3])
    def test_integer_products_round_each_row_to_a_byte(
        self, relative, weight_of, poison, kind: str, out: int, width: int, dtype: torch.dtype
    ) -> None:
        weight = weight_of(kind, out, width)
        for rows in (49, 64, 130, 4099):
            x, bias = _draw(weight, rows, dtype=dtype)
            x[rows // 2] = 0
            y = _linear(x, weight, bias, "int8")
            # A few activations lie half-way between two steps and may be rounded either way.
            limit = {torch.float32: 3e-4, torch.float16: 1e-3, torch.bfloat16: 4e-3}[dtype]
            assert relative(y, weight.rounded_product(x, bias, 127)) <= limit, rows
            assert torch.equal(y[rows // 2], bias)

    # The second shape has the divisibility of a SAM's, so that what is compiled for it serves the benchmarks after.
    @pytest.mark.parametrize(("out", "width"), [(328, 1278), (320, 1280)])
    @pytest.mark.parametrize("dtype", _DTYPES[:3])
    @pytest.mark.parametrize("rows", [1, 33, 64])
    def test_every_tile_of_few_rows_is_exact(
        self, relative, weight_of, poison, out: int, width: int, dtype: torch.dtype, rows: int
    ) -> None:
        from bhk.kernels import few_rows

        weight, gpu = weight_of("outliers", out, width), gpu_of(torch.device(_DEVICE))
        codes, codebook, outliers, starts, _ = weight.operands
        x, bias = _draw(weight, rows, dtype=dtype)
        for tile in few_rows.tiles_for(rows, out, codes.shape[1] // 2, dtype.itemsize, gpu):
            y = few_rows.few_rows(x, codes, codebook, outliers, starts, bias, tile=tile, precision="ieee")
            assert relative(y, weight.product(x, bias)) <= _LIMITS[dtype], tile

    @pytest.mark.parametrize(("out", "width"), [(328, 1278), (320, 1280)])
    @pytest.mark.parametrize("dtype", _DTYPES[:3])
    @pytest.mark.parametrize("kind", ["plain", "outliers", "grid"])
    def test_every_tile_of_integers_is_exact(
        self, relative, weight_of, poison, kind: str, out: int, width: int, dtype: torch.dtype
    ) -> None:
        from bhk.kernels import integer

        weight, gpu = weight_of(kind, out, width), gpu_of(torch.device(_DEVICE))
        codes, codebook, outliers, _, far = weight.operands
        x, bias = _draw(weight, 300, dtype=dtype)
        for tile in integer.tiles_for(300, out, gpu, has_correction=dtype == torch.float32 and len(far) > 0):
            y = integer.integer_product(x, codes, codebook, outliers, far, bias, tile=tile, precision="ieee")
            assert relative(y, weight.rounded_product(x, bias, 127)) <= max(_LIMITS[dtype], 3e-4), tile

    def test_the_fastest_tile_is_measured_and_kept(self, relative, weight_of, monkeypatch) -> None:
        from bhk.kernels import tuning

        monkeypatch.setattr(tuning, "_measure", self.measure)
        weight = weight_of("plain", 264, 520)
        for rows, compute in ((5, "exact"), (60, "exact"), (300, "int8")):
            x, bias = _draw(weight, rows, dtype=torch.bfloat16)
            first = _linear(x, weight, bias, compute)
            assert torch.equal(_linear(x, weight, bias, compute), first)
        assert len(tuning._chosen) == 3
        assert len(list(tuning.read(tuning.cache_path()))) == 3

    def test_inputs_of_any_shape_are_taken(self, weight_of) -> None:
        weight = weight_of("outliers", 65, 33)
        for leading in ((), (0,), (3, 0), (2, 3), (2, 5, 30)):
            x, bias = _draw(weight, *leading)
            expected = functional.linear(x, weight.dense, bias)
            torch.testing.assert_close(_linear(x, weight, bias), expected, rtol=1e-5, atol=1e-5)
        x, bias = _draw(weight, 6, 4)
        strided = torch.stack([x, x], dim=-1)[..., 0]
        assert torch.equal(_linear(strided, weight, bias), _linear(x, weight, bias))

    @pytest.mark.parametrize("rows", [8, 200])
    def test_tf32_is_used_where_torch_is_set_to(self, relative, weight_of, rows: int) -> None:
        weight = weight_of("plain", 256, 512)
        x, _ = _draw(weight, rows)
        exact = weight.product(x, None)
        assert relative(_linear(x, weight, None), exact) <= 1e-6
        torch.set_float32_matmul_precision("high")
        assert 1e-5 < relative(_linear(x, weight, None), exact) < 2e-3

    @pytest.mark.parametrize("kind", ["plain", "outliers", "grid", "wide"])
    @pytest.mark.parametrize("compute", ["exact", "int8"])
    @pytest.mark.parametrize("rows", [3, 300])
    @pytest.mark.parametrize("dtype", _DTYPES[:3])
    def test_calls_wait_for_nothing_and_repeat_in_a_graph(
        self, weight_of, kind: str, compute: str, rows: int, dtype: torch.dtype
    ) -> None:
        weight = weight_of(kind, 512, 1280)
        x, bias = _draw(weight, rows, dtype=dtype)
        first = _linear(x, weight, bias, compute)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            again = _linear(x, weight, bias, compute)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.equal(again, first)  # bit for bit the same each time
        graph, new = torch.cuda.CUDAGraph(), torch.flip(x, (0,)).contiguous()
        with torch.cuda.graph(graph):
            y = _linear(x, weight, bias, compute)
        graph.replay()
        assert torch.equal(y, first)
        x.copy_(new)
        graph.replay()
        assert torch.equal(y, _linear(new, weight, bias, compute))

    @pytest.mark.parametrize("compute", ["exact", "int8"])
    @pytest.mark.parametrize("rows", [7, 300])
    def test_layers_of_one_shape_share_their_kernels(self, weight_of, compute: str, rows: int) -> None:
        from bhk.kernels import dense, few_rows, integer

        kernels = [
            kernel
            for module in (dense, few_rows, integer)
            for kernel in vars(module).values()
            if hasattr(kernel, "device_caches")
        ]

        assert len(kernels) >= 6

        def compiled() -> int:
            return sum(len(cache[0]) for kernel in kernels for cache in kernel.device_caches.values())

        counts = []
        for seed, outliers in enumerate((40, 0, 1, 2, 16, 17, 32)):
            weight = weight_of("outliers", 320, 200, seed, outliers)
            x, bias = _draw(weight, rows)
            _linear(x, weight, bias, compute)
            counts.append(compiled())
        # An integer product that corrects no outlier is a kernel of its own.
        assert counts[-1] - counts[0] <= (compute == "int8" and rows > 48)

    @pytest.mark.parametrize("kind", list(_CLASSES))
    @pytest.mark.parametrize("dtype", _DTYPES)
    def test_gradients_are_those_of_a_linear_layer(self, weight_of, kind: str, dtype: torch.dtype) -> None:
        weight = weight_of(kind, 130, 67)
        x, bias = (tensor.requires_grad_() for tensor in _draw(weight, 5, dtype=dtype))
        _linear(x, weight, bias).square().sum().backward()
        x2, bias2 = (tensor.detach().clone().requires_grad_() for tensor in (x, bias))
        functional.linear(x2, weight.dense.to(dtype), bias2).square().sum().backward()
        tolerance = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 3e-2, torch.bfloat16: 2e-1}[dtype]
        torch.testing.assert_close(x.grad, x2.grad, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(bias.grad, bias2.grad, rtol=tolerance, atol=tolerance)

    @pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
    def test_models_compile_without_a_break(self, weight_of, coded_layer, mode: str) -> None:
        first, second = weight_of("outliers", 96, 64), weight_of("plain", 32, 96)
        model = nn.Sequential(coded_layer(first), nn.GELU(), coded_layer(second, "int8"))
        compiled = torch.compile(model, fullgraph=True, mode=mode)
        for rows in (5, 80):
            x, _ = _draw(first, rows)
            for _ in range(3):
                torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-2)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_operators_are_proper(self, weight_of, dtype: torch.dtype) -> None:
        weight = weight_of("outliers", 65, 33)
        x, bias = _draw(weight, 3, 20, dtype=dtype)
        torch.library.opcheck(torch.ops.bhk.decode.default, (*weight.decode_operands, 33, dtype))
        for compute in ("exact", "int8"):
            arguments = (x.requires_grad_(), *weight.operands, bias.requires_grad_(), compute)
            torch.library.opcheck(torch.ops.bhk.hyper_linear.default, arguments)
