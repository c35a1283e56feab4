from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import bhk
from bhk.checkpoint import UnsupportedTensorError
from bhk.codec.fit import PresetError
from bhk.container.errors import BadNameError
from bhk.container.reader import Container
from bhk.files import DestinationExistsError, WriteError
from bhk.tasks.convert import MetadataError
from tasks.checkpoints import PUBLISHED, draw, published, save, small


def _parts(path: Path) -> tuple[dict[str, Any], int, bytes]:
    """Return the header without what names the source, its length, and all that lies behind it."""
    with Container.open(path) as container:
        length = container.header_bytes
    data = path.read_bytes()
    header = json.loads(data[64 : 64 + length])
    header["metadata"] = {key: value for key, value in header["metadata"].items() if not key.startswith("source.")}
    return header, length, data[64 + length :]


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_checkpoint_goes_there_and_back(tmp_path: Path, path: Path) -> None:
    tensors, wrapper = published(path, largest=33)
    source = save(tmp_path / "published.pth", {wrapper: tensors} if wrapper else tensors)
    report = bhk.convert(source, tmp_path / "sam.bhk", threads=1)
    assert report.source_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert report.bytes == (tmp_path / "sam.bhk").stat().st_size
    assert report.coded > 90
    assert report.warnings == report.left_out == ()
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
    names = ["module.sam.mask_decoder.up.weight", "module.sam.image_encoder.up.weight"]
    tensors = draw(dict.fromkeys(names, (40, 40)))
    report = bhk.convert(save(tmp_path / "ddp.pth", {wrapper: tensors} if wrapper else tensors))
    assert [layer.name for layer in report.layers] == ["image_encoder.up.weight", "mask_decoder.up.weight"]
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
    bhk.convert(source, tmp_path / "1.bhk", preset=preset, threads=1)
    bhk.convert(source, tmp_path / "2.bhk", preset=preset, threads=2)
    bhk.convert(tmp_path / "with a longer name.safetensors", tmp_path / "3.bhk", preset=preset)
    assert (tmp_path / "1.bhk").read_bytes() == (tmp_path / "2.bhk").read_bytes()
    assert _parts(tmp_path / "1.bhk") == _parts(tmp_path / "3.bhk")


def test_layers_stand_in_natural_order(tmp_path: Path) -> None:
    report = bhk.convert(save(tmp_path / "a.pth", small()))
    assert [layer.name for layer in report.layers] == ["blocks.2.bias", "blocks.2.weight", "blocks.10.weight"]


@pytest.mark.parametrize("ratio", [5, 7, 12])
def test_a_ratio_is_met(tmp_path: Path, ratio: float) -> None:
    tensors = draw({f"blocks.{i}.weight": (512, 600) for i in range(8)})
    tensors |= draw({"head.weight": (300, 1000), "norm.weight": (3000,)}, scale=0.3, seed=1)
    heavy = torch.distributions.StudentT(3.0)
    torch.manual_seed(0)
    tensors["heavy.weight"] = heavy.sample(torch.Size((600, 700))) * 0.05
    source = save(tmp_path / "a.pth", tensors)
    report = bhk.convert(source, ratio=ratio)
    assert report.ratio == pytest.approx(ratio, rel=0.01)
    assert report.ratio == report.source_bytes / report.path.stat().st_size


def test_a_ratio_is_met_where_sizes_jump(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {f"blocks.{i}.weight": torch.rand(512, 512, generator=generator) for i in range(2)}
    assert bhk.convert(save(tmp_path / "a.pth", tensors), ratio=12).ratio == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize(
    ("tensors", "ratio", "message"),
    [
        (
            draw({"a.weight": (256, 256)}),
            100,
            r"a ratio of 100 was asked for; this checkpoint reaches \d\.\d\d to 1\d\.\d\d",
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
        bhk.convert(source, ratio=ratio)
    assert list(tmp_path.iterdir()) == [source]


def test_presets_trade_size_for_quality(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", draw({"a.weight": (256, 256), "b.weight": (256, 300)}))
    found = {}
    for preset in ("fine", "balanced", "small"):
        report = bhk.convert(source, tmp_path / f"{preset}.bhk", preset=preset)
        found[preset] = report.bytes, min(layer.error.snr_db for layer in report.layers)
    assert found["fine"] > found["balanced"] > found["small"]
    by_number = bhk.convert(source, tmp_path / "28.bhk", snr=28)
    assert by_number.bytes == found["balanced"][0]


def test_the_published_method_codes_everything_on_its_own_square(tmp_path: Path) -> None:
    tensors = draw({"a.weight": (64, 64), "a.bias": (11,), "tiny.weight": (3, 3)}, scale=0.01)
    tensors["far.weight"] = torch.linspace(-100, 100, 4096).view(64, 64)
    report = bhk.convert(save(tmp_path / "a.pth", tensors), preset="birkhoff")
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


def test_delicate_tensors_get_a_quarter_of_the_step(tmp_path: Path) -> None:
    names = ["image_encoder.a.weight", "mask_decoder.a.weight", "prompt_encoder.a.weight"]
    report = bhk.convert(save(tmp_path / "a.pth", draw(dict.fromkeys(names, (64, 64)))))
    steps = _steps(report.path)
    assert steps["image_encoder.a.weight"] / steps["mask_decoder.a.weight"] == pytest.approx(4, rel=0.01)
    assert steps["prompt_encoder.a.weight"] == steps["mask_decoder.a.weight"]
    with bhk.open(report.path) as file:
        assert file.container.header.model.family == "sam"


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
    tensors |= draw({"a.weight": (128, 64), "b.weight": (20, 8, 3, 3), "c.weight": (2000,)}, scale=0.3, seed=1)
    source = save(tmp_path / "a.pth", tensors)
    for preset in ("balanced", "small", "birkhoff"):
        estimated = bhk.convert(source, preset=preset, dry_run=True)
        assert list(tmp_path.iterdir()) == [source]
        assert estimated.path is None
        real = bhk.convert(source, preset=preset)
        assert estimated.bytes == pytest.approx(real.bytes, rel=0.03)
        assert estimated.source_bytes == real.source_bytes
        real.path.unlink()


def test_a_dry_run_needs_no_free_destination(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")
    assert bhk.convert(source, tmp_path / "a.bhk", dry_run=True).bytes > 0
    assert (tmp_path / "a.bhk").read_bytes() == b"old"


def test_metadata_tells_where_the_weights_came_from(tmp_path: Path) -> None:
    source = save(tmp_path / "sam.pth", {"model": {f"module.{name}": tensor for name, tensor in small().items()}})
    report = bhk.convert(source, metadata={"licence": "Apache-2.0", "source.url": "https://example.org"})
    with bhk.open(report.path) as file:
        assert file.metadata == {
            "source.name": "sam.pth",
            "source.bytes": str(source.stat().st_size),
            "source.dtype": "F32",
            "source.sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "checkpoint.wrapper": '["model"]',
            "checkpoint.prefix": "module.",
            "licence": "Apache-2.0",
            "source.url": "https://example.org",
        }


@pytest.mark.parametrize("key", ["source.sha256", "source.name", "checkpoint.prefix", "checkpoint.groups"])
def test_metadata_that_bhk_writes_is_not_the_users(tmp_path: Path, key: str) -> None:
    source = save(tmp_path / "a.pth", small())
    with pytest.raises(MetadataError, match=key):
        bhk.convert(source, metadata={key: "x"})
    assert list(tmp_path.iterdir()) == [source]


def test_the_hash_of_a_sharded_source_is_that_of_its_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    folder.mkdir()
    shards = {f"model-0000{i}-of-00002.safetensors": draw({f"b.{3 - i}.weight": (40, 40)}, seed=i) for i in (2, 1)}
    for name, tensors in shards.items():
        safetensors.torch.save_file(tensors, folder / name)
    index = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    report = bhk.convert(folder)
    assert report.path == tmp_path / "sharded.bhk"
    data = b"".join((folder / name).read_bytes() for name in sorted(shards))
    with bhk.open(report.path) as file:
        assert file.metadata["source.sha256"] == hashlib.sha256(data).hexdigest()
        assert file.metadata["source.bytes"] == str(len(data))
        assert file.metadata["source.name"] == "sharded"
    bhk.verify(report.path, folder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sam.pth", "sam.bhk"),
        ("sub/sam.pth", "sub/sam.bhk"),
        ("sam2.1_hiera", "sam2.1_hiera.bhk"),
        ("vits.pt.zip", "vits.bhk"),
        ("with space ü.bin", "with space ü.bhk"),
    ],
)
def test_the_default_destination_lies_beside_the_source(here: Path, source: str, expected: str) -> None:
    (here / "sub").mkdir()
    save(Path(source), small())
    assert bhk.convert(source).path == Path(expected)
    assert Path(expected).is_file()


def test_the_default_destination_of_a_link_lies_beside_the_link(here: Path) -> None:
    (here / "blobs").mkdir()
    save(here / "blobs" / "0123abcd", small())
    Path("model.pth").symlink_to("blobs/0123abcd")
    assert bhk.convert("model.pth").path == Path("model.bhk")
    assert [path.name for path in (here / "blobs").iterdir()] == ["0123abcd"]


def test_the_default_destination_of_an_index_lies_beside_it(tmp_path: Path) -> None:
    bhk.convert(save(tmp_path / "a.pth", small()), tmp_path / "a.bhk")
    *_, index = bhk.export(tmp_path / "a.bhk", tmp_path / "model.safetensors", shard_bytes=6000)
    assert index.name == "model.safetensors.index.json"
    assert bhk.convert(index).path == tmp_path / "model.bhk"


def test_the_source_is_never_the_destination(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    os.link(source, tmp_path / "hard.bhk")
    (tmp_path / "soft.bhk").symlink_to(source)
    before = source.read_bytes()
    for name in ("a.pth", "hard.bhk", "soft.bhk"):
        with pytest.raises(WriteError, match="is the file that is being read"):
            bhk.convert(source, tmp_path / name, force=True)
    assert source.read_bytes() == before
    assert (tmp_path / "soft.bhk").is_symlink()


@pytest.mark.parametrize("force", [False, True])
def test_a_second_checkpoint_is_no_destination(tmp_path: Path, force: bool) -> None:
    source, other = save(tmp_path / "a.pth", small()), save(tmp_path / "b.pth", {"precious": torch.ones(3)})
    before = other.read_bytes()
    with pytest.raises(WriteError, match=r"b\.pth"):  # `bhk convert *.pth`
        bhk.convert(source, other, force=force)
    assert other.read_bytes() == before
    with pytest.raises(WriteError, match=r"ends in \.bhk"):
        bhk.convert(source, tmp_path / "new.safetensors", force=force)
    assert not (tmp_path / "new.safetensors").exists()


def test_an_existing_destination_needs_force(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")
    with pytest.raises(DestinationExistsError, match="--force"):
        bhk.convert(source)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    bhk.convert(source, force=True)
    bhk.verify(tmp_path / "a.bhk", source)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"a\x1b[31m.weight": torch.ones(40, 40)}, BadNameError, r"a\\x1b\[31m\.weight"),
        ({"n" * 1025: torch.ones(40, 40)}, BadNameError, "1025 bytes"),
        ({"scale": torch.ones(4).to(torch.float8_e8m0fnu)}, UnsupportedTensorError, "'scale' is torch.float8_e8m0fnu"),
    ],
)
def test_what_the_format_lacks_is_said_before_the_work(
    tmp_path: Path, tensors: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    source = save(tmp_path / "a.pth", {**tensors, "b.weight": torch.ones(64, 64)})
    done: list[int] = []
    with pytest.raises(error, match=message):
        bhk.convert(source, progress=lambda part, whole: done.append(part))
    assert done == []
    assert list(tmp_path.iterdir()) == [source]


def test_progress_counts_dense_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = bhk.convert(save(tmp_path / "a.pth", small()), progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 3
    assert sorted(seen) == seen
    assert seen[-1] == (report.source_bytes, report.source_bytes)


@contextlib.contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Let the system refuse to make any file larger than `size`, as a full disk would."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", [10, 10_000, 200_000])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, size: int) -> None:
    source = save(tmp_path / "a.pth", draw({f"blocks.{i}.weight": (256, 256) for i in range(8)}))
    (tmp_path / "a.bhk").write_bytes(b"old")
    with _file_size_limit(size), pytest.raises(WriteError, match=r"cannot write .*a\.bhk: File too large"):
        bhk.convert(source, force=True)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bhk", source]


def test_a_failure_in_between_leaves_the_old_file_alone(tmp_path: Path) -> None:
    source = save(tmp_path / "a.pth", small())
    (tmp_path / "a.bhk").write_bytes(b"old")

    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bhk.convert(source, force=True, progress=fail)
    assert (tmp_path / "a.bhk").read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.bhk", source]


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_flipped_bit_in_the_source_is_refused_or_is_in_the_weights(tmp_path: Path, form: str) -> None:
    source = tmp_path / "sound"
    if form == "safetensors":
        safetensors.torch.save_file(small(), source)
    else:
        torch.save(small(), source, _use_new_zipfile_serialization=form == "zip")
    data = source.read_bytes()
    refused = []
    for place in [*range(0, 400, 17), *range(400, len(data), 1501), *range(len(data) - 300, len(data), 17)]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 7)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            bhk.convert(tmp_path / "damaged", tmp_path / "a.bhk", force=True)
        except bhk.BhkError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(message.isprintable() for message in refused)
