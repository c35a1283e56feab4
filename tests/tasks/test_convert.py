from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from container.memory import header_text
from sam.state_dicts import shapes_of

import bhk
from bhk.checkpoint import UnsupportedTensorError
from bhk.codec.fit import PresetError
from bhk.container.header import ModelEntry
from bhk.container.reader import Container
from bhk.nn import HyperLinear
from bhk.sam.allocation import finer_db
from bhk.sam.variants import FAMILIES, VARIANTS
from tasks.checkpoints import PUBLISHED, draw, published, save, small


def _parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header without what names the source, and all that lies behind it."""
    with Container.open(path) as container:
        length = container.header_length
    data = path.read_bytes()
    header = json.loads(header_text(data))
    header["metadata"] = {key: value for key, value in header["metadata"].items() if not key.startswith("source.")}
    return header, data[64 + length :]


def _layers(path: Path) -> dict[str, Any]:
    with bhk.open(path) as file:
        return {layer.name: layer for layer in file.layers}


def _steps(path: Path) -> dict[str, float]:
    with bhk.open(path) as file:
        return {
            layer.name: file.codebooks[layer.codebook].side / file.codebooks[layer.codebook].windings
            for layer in file.layers
            if layer.codebook is not None
        }


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_checkpoint_goes_there_and_back(tmp_path: Path, path: Path) -> None:
    tensors, wrapper = published(path, largest=33)
    source = save(tmp_path / "published.pth", {wrapper: tensors} if wrapper else tensors)
    report = bhk.convert(source, tmp_path / "sam.bhk", threads=1)
    assert report.source_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert report.bytes == (tmp_path / "sam.bhk").stat().st_size
    assert report.coded > 90
    assert all("bhk.load cannot build" in warning for warning in report.warnings)  # it has other sizes than published
    assert report.left_out == ()
    bhk.verify(tmp_path / "sam.bhk", source, threads=1)
    layers = _layers(tmp_path / "sam.bhk")
    assert all(layers[name].encoding == "exact" for name, tensor in tensors.items() if not tensor.is_floating_point())

    bhk.export(tmp_path / "sam.bhk", tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(again) == ({wrapper} if wrapper else set(tensors))
    again = again[wrapper] if wrapper else again
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in again.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()
    }
    assert all(torch.equal(again[name], tensors[name]) for name, layer in layers.items() if layer.encoding == "exact")


def test_there_are_published_lists() -> None:
    assert len(PUBLISHED) >= 18


def test_tied_tensors_are_stored_once_and_tied_again(tmp_path: Path) -> None:
    tied = draw({"x": (40, 40)})["x"]
    source = save(tmp_path / "tied.pth", {"b.weight": tied, "a.weight": tied, "c.bias": torch.ones(3)})
    report = bhk.convert(source)
    assert report.source_bytes == tied.nbytes + 12
    assert {layer.name: layer.aliases for layer in report.layers} == {"a.weight": ("b.weight",), "c.bias": ()}
    bhk.export(report.path, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert again["a.weight"].data_ptr() == again["b.weight"].data_ptr()
    assert list(bhk.load_state_dict(report.path)) == ["a.weight", "b.weight", "c.bias"]


@pytest.mark.parametrize("wrapper", [None, "model"])
def test_prefixes_are_cut_off_and_put_back(tmp_path: Path, wrapper: str | None) -> None:
    parts = ["image_encoder.neck.0.weight", "mask_decoder.iou_token.weight"]
    names = [f"module.sam.{part}" for part in parts]
    tensors = draw(dict.fromkeys(names, (40, 40)))
    report = bhk.convert(save(tmp_path / "ddp.pth", {wrapper: tensors} if wrapper else tensors))
    assert [layer.name for layer in report.layers] == parts
    bhk.verify(report.path, tmp_path / "ddp.pth")
    bhk.export(report.path, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert set(again[wrapper] if wrapper else again) == set(names)
    bhk.export(report.path, tmp_path / "again.safetensors")
    assert set(safetensors.torch.load_file(tmp_path / "again.safetensors")) == set(names)


def test_a_tied_name_without_the_prefix_stays_whole(tmp_path: Path) -> None:
    tied = draw({"x": (40, 40)})["x"]
    report = bhk.convert(save(tmp_path / "a.pth", {"sam.mask_decoder.up.weight": tied, "copy.weight": tied}))
    assert set(bhk.load_state_dict(report.path)) == {"sam.mask_decoder.up.weight", "copy.weight"}


def test_parts_of_a_model_are_groups(tmp_path: Path) -> None:
    parts = {
        "PromtEncoder": draw({"point_embeddings.0.weight": (1, 40)}),
        "MaskDecoder": draw({"transformer.out.weight": (40, 40), "iou_token.weight": (1, 40)}),
    }
    report = bhk.convert(save(tmp_path / "guided.pt", parts))
    assert [layer.name for layer in report.layers] == [
        "MaskDecoder.iou_token.weight",
        "MaskDecoder.transformer.out.weight",
        "PromtEncoder.point_embeddings.0.weight",
    ]
    bhk.export(report.path, tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert {part: set(names) for part, names in again.items()} == {part: set(names) for part, names in parts.items()}


def test_dtypes_are_kept_side_by_side(tmp_path: Path) -> None:
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool]
    weights = draw({f"{dtype}.weight": (64, 65) for dtype in dtypes}, scale=3)
    tensors = {name: weights[name].to(dtype) for name, dtype in zip(weights, dtypes, strict=True)}
    report = bhk.convert(save(tmp_path / "mixed.pth", tensors))
    assert report.coded == 4
    assert all(27 < layer.error.snr_db < 29 for layer in report.layers if layer.error)
    loaded = bhk.load_state_dict(report.path)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {n: t.dtype for n, t in tensors.items()}
    bhk.verify(report.path, tmp_path / "mixed.pth")


@pytest.mark.parametrize("preset", ["balanced", "birkhoff"])
def test_the_bytes_do_not_depend_on_threads_or_on_the_format_of_the_source(tmp_path: Path, preset: str) -> None:
    tensors = draw({f"blocks.{i}.{kind}.weight": (96, 90 + i) for i in range(12) for kind in "qkv"})
    tensors["mean"] = torch.zeros(5000)
    source = save(tmp_path / "a.pth", tensors)
    safetensors.torch.save_file(dict(reversed(tensors.items())), tmp_path / "with a longer name.safetensors")
    bhk.convert(source, tmp_path / "1.bhk", quality=preset, threads=1)
    bhk.convert(source, tmp_path / "2.bhk", quality=preset, threads=2)
    bhk.convert(tmp_path / "with a longer name.safetensors", tmp_path / "3.bhk", quality=preset)
    assert (tmp_path / "1.bhk").read_bytes() == (tmp_path / "2.bhk").read_bytes()
    assert _parts(tmp_path / "1.bhk") == _parts(tmp_path / "3.bhk")


def test_layers_stand_in_natural_order(tmp_path: Path) -> None:
    report = bhk.convert(save(tmp_path / "a.pth", small()))
    assert [layer.name for layer in report.layers] == ["blocks.2.bias", "blocks.2.weight", "blocks.10.weight"]


def test_layers_of_one_step_share_a_codebook(tmp_path: Path) -> None:
    tensors = draw({f"blocks.{i}.weight": (96, 90) for i in range(6)}) | draw({"head.weight": (96, 90)}, scale=30.0)
    report = bhk.convert(save(tmp_path / "a.pth", tensors), quality="small")
    with bhk.open(report.path) as file:
        first, last = file.codebook("blocks.0.weight"), file.codebook("head.weight")
        assert file.layers == report.layers
        assert len(file.codebooks) == 2
        assert all(file.codebook(f"blocks.{i}.weight") == first != last for i in range(6))


def test_the_header_is_compressed(tmp_path: Path) -> None:
    report = bhk.convert(save(tmp_path / "a.pth", small()))
    with Container.open(report.path) as container:
        length = container.header_length
    assert length < len(header_text(report.path.read_bytes())) / 2


@pytest.mark.parametrize("ratio", [5, 7, 12])
def test_a_ratio_is_met(tmp_path: Path, ratio: float) -> None:
    tensors = draw({f"blocks.{i}.weight": (512, 600) for i in range(8)})
    tensors |= draw({"head.weight": (300, 1000), "norm.weight": (3000,)}, scale=0.3, seed=1)
    heavy = torch.distributions.StudentT(3.0)
    torch.manual_seed(0)
    tensors["heavy.weight"] = heavy.sample(torch.Size((600, 700))) * 0.05
    source = save(tmp_path / "a.pth", tensors)
    report = bhk.convert(source, quality=bhk.Quality(ratio=ratio))
    assert report.ratio == pytest.approx(ratio, rel=0.01)
    assert report.ratio == report.source_bytes / report.path.stat().st_size


def test_a_ratio_is_met_where_sizes_jump(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"blocks.{i}.weight": torch.rand(512, 512, generator=generator) for i in range(2)}
    assert bhk.convert(save(tmp_path / "a.pth", tensors), quality=bhk.Quality(ratio=12)).ratio == pytest.approx(
        12, rel=0.01
    )


@pytest.mark.parametrize(
    ("tensors", "ratio", "message"),
    [
        (
            draw({"a.weight": (256, 256)}),
            100,
            r"a ratio of 100 was asked for; this checkpoint reaches \d\.\d\d to 2\d\.\d\d",
        ),
        (draw({"a.weight": (256, 256)}), 2, r"a ratio of 2 was asked for; this checkpoint reaches"),
        ({"a.bias": torch.zeros(100_000)}, 5, "a ratio of 5 was asked for; this checkpoint reaches"),
        (draw({"a.weight": (256, 256)}), 1, "above 1"),
        (draw({"a.weight": (256, 256)}), float("nan"), "above 1"),
    ],
)
def test_a_ratio_out_of_reach_says_what_is_in_reach(
    tmp_path: Path, tensors: dict[str, torch.Tensor], ratio: float, message: str
) -> None:
    source = save(tmp_path / "a.pth", tensors)
    with pytest.raises(PresetError, match=message):
        bhk.convert(source, quality=bhk.Quality(ratio=ratio))
    assert list(tmp_path.iterdir()) == [source]


def test_presets_trade_size_for_quality(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw({"a.weight": (256, 256), "b.weight": (256, 300)}))
    found = {}
    for preset in ("fine", "balanced", "small"):
        report = bhk.convert(source, tmp_path / f"{preset}.bhk", quality=preset)
        found[preset] = report.bytes, min(layer.error.snr_db for layer in report.layers)
    assert found["fine"] > found["balanced"] > found["small"]


def test_the_published_method_codes_everything_on_its_own_square(tmp_path: Path) -> None:
    tensors = draw({"a.weight": (64, 64), "a.bias": (11,), "tiny.weight": (3, 3)}, scale=0.01)
    tensors["far.weight"] = torch.linspace(-100, 100, 4096).view(64, 64)
    report = bhk.convert(save(tmp_path / "a.pth", tensors), quality="birkhoff")
    assert [layer.encoding for layer in report.layers] == ["trajectory", "trajectory", "exact", "exact"]
    assert report.warnings == ("far.weight is too far off the published square; it is kept exact",)
    with bhk.open(report.path) as file:
        assert {(c.side, c.windings, c.lattice) for c in file.codebooks} == {(0.10000000149011612, 35, "corner")}
        assert {stream.codec for layer in file.layers if layer.error for stream in layer.streams} == {"packed"}
    bhk.verify(report.path, tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_kept_exact_and_named(tmp_path: Path, value: float) -> None:
    tensors = draw({"a.weight": (64, 64), "b.weight": (64, 64)})
    tensors["b.weight"][3, 4] = value
    report = bhk.convert(save(tmp_path / "a.pth", tensors))
    assert report.warnings == ("b.weight holds NaN or infinity; it is kept exact",)
    assert report.coded == 1
    loaded = bhk.load_state_dict(report.path)["b.weight"]
    assert torch.equal(loaded, tensors["b.weight"]) or torch.isnan(loaded[3, 4])
    bhk.verify(report.path, tmp_path / "a.pth")


def test_nothing_to_code_is_no_error(tmp_path: Path) -> None:
    tensors = {
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 7),
        "steps": torch.tensor(9),
        "bias": torch.arange(5.0),
        "tiny.weight": torch.ones(31, 33),
        "flag": torch.tensor([True, False]),
    }
    report = bhk.convert(save(tmp_path / "a.pth", tensors))
    assert report.coded == 0
    loaded = bhk.load_state_dict(report.path)
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    bhk.verify(report.path, tmp_path / "a.pth")


def test_parts_of_a_sam_get_the_steps_of_the_table(tmp_path: Path) -> None:
    upscaling = "mask_decoder.output_upscaling.0.weight"
    names = ["image_encoder.blocks.0.mlp.lin1.weight", upscaling, "image_encoder.neck.0.weight"]
    report = bhk.convert(save(tmp_path / "a.pth", draw(dict.fromkeys(names, (64, 64)))))
    steps = _steps(report.path)
    block, decoder, neck = (finer_db(FAMILIES["sam"], name) for name in names)
    assert block < neck < decoder
    for name, finer in zip(names, (block, decoder, neck), strict=True):
        less = 10 ** ((finer - decoder) / 20)
        assert steps[upscaling] / steps[name] == pytest.approx(less, rel=0.01)
    with bhk.open(report.path) as file:
        assert file.container.header.model.family == "sam"


def test_the_header_says_what_a_loader_needs_to_build_the_model(tmp_path: Path) -> None:
    shapes = {f"module.sam.{name}": shape for name, shape in shapes_of("sam2.1_hiera_tiny").items()}
    source = save(
        tmp_path / "sam2.1_hiera_tiny.pt", {"model": {name: torch.zeros(shape) for name, shape in shapes.items()}}
    )
    report = bhk.convert(source)
    settings = VARIANTS["sam2.1_hiera_tiny"].settings
    assert bhk.inspect(report.path).model == ModelEntry("sam2", "sam2.1_hiera_tiny", {"config": settings})
    assert {layer.name for layer in report.layers} == set(shapes_of("sam2.1_hiera_tiny"))


def test_the_two_modules_of_mobile_sam_v2_stay_apart(tmp_path: Path) -> None:
    content: dict[str, dict[str, torch.Tensor]] = {"PromtEncoder": {}, "MaskDecoder": {}}
    for name, shape in shapes_of("mobile_sam_v2").items():
        group, _, key = name.partition(".")
        content[group][key] = torch.zeros(shape)
    report = bhk.convert(save(tmp_path / "Prompt_guided_Mask_Decoder.pt", content))
    assert bhk.inspect(report.path).model == ModelEntry("mobile_sam_v2", "mobile_sam_v2", {"prompt_embed_dim": 256})
    bhk.export(report.path, tmp_path / "again.pt")
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert {group: set(tensors) for group, tensors in again.items()} == {
        group: set(tensors) for group, tensors in content.items()
    }


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    moments = {i: {"exp_avg": torch.ones(2)} for i in range(3)}
    content = {"model": small(), "optimizer": {"state": moments, "param_groups": []}, "epoch": 3}
    report = bhk.convert(save(tmp_path / "train.pth", content))
    assert report.left_out == ("optimizer (state of 3 tensors)", "epoch")
    assert len(report.layers) == 3


def test_a_key_settles_which_weights(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", {"teacher": small(), "student": draw({"only.weight": (40, 40)})})
    assert [layer.name for layer in bhk.convert(source, key="student").layers] == ["only.weight"]


def test_a_dry_run_writes_nothing_and_estimates_well(tmp_path: Path) -> None:
    tensors = draw({f"blocks.{i}.weight": (200, 300) for i in range(4)})
    tensors |= draw({"a.weight": (128, 64), "b.weight": (20, 8, 3, 3), "c.weight": (2000,)}, scale=2.0, seed=1)
    source = save(tmp_path / "a.pth", tensors)
    for preset in ("balanced", "small", "birkhoff"):
        estimated = bhk.convert(source, quality=preset, dry_run=True)
        assert list(tmp_path.iterdir()) == [source]
        assert estimated.path is None
        real = bhk.convert(source, quality=preset)
        assert estimated.bytes == pytest.approx(real.bytes, rel=0.03)
        assert estimated.source_bytes == real.source_bytes
        real.path.unlink()


def test_a_dry_run_needs_no_free_destination(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")
    assert bhk.convert(source, tmp_path / "a.bhk", dry_run=True).bytes > 0
    assert (tmp_path / "a.bhk").read_bytes() == b"old"


def test_layers_that_hold_codes_are_not_coded_again(tmp_path: Path) -> None:
    layer = HyperLinear.from_linear(torch.nn.Linear(64, 64))
    torch.save(torch.nn.Sequential(layer).state_dict(), tmp_path / "tuned.pth")
    with pytest.raises(UnsupportedTensorError, match=r"'0' is a layer on codes.*to_dense"):
        bhk.convert(tmp_path / "tuned.pth")
    assert list(tmp_path.iterdir()) == [tmp_path / "tuned.pth"]
