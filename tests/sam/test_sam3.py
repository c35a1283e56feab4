from __future__ import annotations

import gzip
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bhk
from bhk.container.header import ModelEntry
from bhk.conversion.selection import MIN_NUMEL
from bhk.publishing.content import card_content
from bhk.sam.allocation import SAM3_PARTS, part_of
from bhk.sam.build import build_model
from bhk.sam.prediction.predictor import PredictionError
from bhk.sam.prediction.texts import MissingTokenizerError
from bhk.sam.recognise import recognise
from bhk.sam.variants import FAMILIES
from bhk.sam.vocabulary import tokenizer_of, write_vocabulary
from sam.models import finding, small_hf_sam3, small_hf_sam3_lite_text, small_hf_sam3_tracker, small_hf_sam3_video
from sam.prediction.test_sam3 import save_tokenizer
from sam.state_dicts import shapes_of

pytest.importorskip("transformers")
KINDS = {
    small_hf_sam3: "transformers_sam3",
    small_hf_sam3_lite_text: "transformers_sam3",
    small_hf_sam3_tracker: "transformers_sam3_tracker",
    small_hf_sam3_video: "transformers_sam3_video",
}


@pytest.fixture(params=list(KINDS), ids=lambda kind: kind.__name__)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str, Path]:
    """A model of transformers, its family, and the checkpoint that transformers saved of it."""
    model = request.param()
    model.save_pretrained(tmp_path)
    return model, KINDS[request.param], tmp_path / "model.safetensors"


def _settings(model: Any) -> dict[str, Any]:
    about = ("_name_or_path", "architectures", "dtype")  # not the model, but where it comes from
    return {name: value for name, value in model.config.to_dict().items() if name not in about}


def test_what_transformers_saves_is_recognised_and_loaded(saved: tuple[Any, str, Path]) -> None:
    model, family, path = saved
    report = bhk.convert(path)
    assert not report.warnings
    with bhk.open(report.path) as file:
        entry = file.container.header.model
    assert entry is not None
    assert entry.family == family
    for source in (path, report.path):
        loaded: Any = bhk.load(source, mode="dense")
        assert type(loaded) is type(model)
        assert _settings(loaded) == _settings(model)
        ours, theirs = loaded.state_dict(), model.state_dict()
        assert ours.keys() == theirs.keys()
        tolerance = 0.0 if source == path else 0.1
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=tolerance * float(tensor.abs().max()))


def test_a_module_is_recognised_as_what_it_is(saved: tuple[Any, str, Path], tmp_path: Path) -> None:
    model, family, _ = saved
    with bhk.open(bhk.convert(model, tmp_path / "module.bhk").path) as file:
        entry = file.container.header.model
    assert entry is not None
    assert entry.family == family
    assert type(bhk.load(tmp_path / "module.bhk")) is type(model)


def test_the_wrong_settings_are_refused(saved: tuple[Any, str, Path]) -> None:
    _, _, path = saved
    (path.parent / "config.json").unlink()
    with pytest.raises(bhk.errors.UnknownModelError, match=r"config\.json"):
        bhk.load(path)


def _sizes(model: nn.Module) -> dict[str, int]:
    return {name: tensor.numel() for name, tensor in model.state_dict().items() if tensor.ndim > 1}


def test_a_weight_has_one_quality_in_every_class() -> None:
    family = {kind: FAMILIES[name] for kind, name in KINDS.items()}
    whole = {name: part_of(family[small_hf_sam3_video], name) for name in _sizes(small_hf_sam3_video())}
    for kind in (small_hf_sam3, small_hf_sam3_tracker):
        for name in _sizes(kind()):
            own = name.removeprefix("vision_encoder.neck.")
            if kind is small_hf_sam3 or name.startswith("vision_encoder.backbone."):
                twin = f"detector_model.{name}"
            else:
                twin = f"tracker_model.{name}" if own == name else f"tracker_neck.{own}"
            assert part_of(family[kind], name) is whole[twin], name


def test_every_large_weight_has_a_part_of_its_own() -> None:
    family = FAMILIES["transformers_sam3_video"]
    of_part: dict[str, int] = {}
    for name, size in _sizes(small_hf_sam3_video()).items():
        if size >= MIN_NUMEL:
            title = part_of(family, name).title
            of_part[title] = of_part.get(title, 0) + 1
    layers = 2
    assert of_part["text: attention"] == of_part["encoder: attention"] == 4 * layers
    assert of_part["text: MLP"] == 2 * layers
    assert of_part["encoder: MLP, first layer"] == of_part["encoder: MLP, second layer"] == layers
    assert of_part["DETR: attention"] == 4 * (2 * 2 + 2 * 3 + 1 * 2)  # encoder, decoder, geometry encoder
    assert of_part["DETR: MLP"] == 2 * (2 + 2 + 1)
    assert of_part["text: vocabulary"] == of_part["encoder: patch embedding"] == 1


def test_the_small_text_encoder_has_the_parts_of_the_large_one_and_finds_the_same(tmp_path: Path) -> None:
    family, model = FAMILIES["transformers_sam3"], finding(small_hf_sam3_lite_text())
    of_part: dict[str, int] = {}
    for name in (name for name, size in _sizes(model).items() if size >= MIN_NUMEL and "text_encoder." in name):
        title = part_of(family, name).title
        of_part[title] = of_part.get(title, 0) + 1
    assert of_part == {"text: vocabulary": 1, "text: attention": 4, "text: MLP": 2 * 3}
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    save_tokenizer(tmp_path)
    path = bhk.convert(tmp_path / "model.safetensors").path
    assert path is not None
    assert card_content({"model.bhk": path}, "user/small").files[0].transformers_class == "Sam3LiteTextModel"
    picture = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    dense, held = (bhk.segment(path, picture, texts=["cup"], mode=mode) for mode in ("dense", "hyper"))
    assert len(dense.masks) > 2
    assert np.array_equal(dense.masks, held.masks)


def test_small_layers_that_are_asked_once_a_text_keep_their_codes(tmp_path: Path) -> None:
    small_hf_sam3_video().save_pretrained(tmp_path)
    model = bhk.load(bhk.convert(tmp_path / "model.safetensors").path)
    held = {name.split(".")[1] for name, module in model.named_modules() if isinstance(module, bhk.nn.HyperLinear)}
    assert held == {"detr_encoder", "detr_decoder", "geometry_encoder"}


def test_metas_checkpoint_is_recognised_and_has_the_same_parts() -> None:
    found = recognise(shapes_of("sam3"))
    assert found is not None
    assert found.fault is None
    assert (found.family.name, found.variant and found.variant.name) == ("sam3", "sam3")
    weights: dict[str, int] = {}
    for name, shape in shapes_of("sam3").items():
        if len(shape) > 1 and not name.endswith("freqs_cis"):  # kept exact
            title = part_of(found.family, name).title
            weights[title] = weights.get(title, 0) + math.prod(shape)
    assert weights["encoder: attention"] == 32 * 4 * 1024**2
    assert weights["encoder: MLP, first layer"] == weights["encoder: MLP, second layer"] == 32 * 1024 * 4736
    assert weights["text: attention"] == 24 * 4 * 1024**2
    assert weights["text: MLP"] == 24 * 2 * 1024 * 4096
    assert weights["text: vocabulary"] == 49408 * 1024
    assert weights["DETR: attention"] == 36 * 4 * 256**2  # without that in the mask decoder
    assert weights["DETR: MLP"] == 15 * 2 * 256 * 2048
    assert weights["other"] < 0.03 * sum(weights.values())


def test_names_of_metas_classes() -> None:
    family = FAMILIES["sam3"]
    names = {
        "detector.backbone.vision_backbone.trunk.pos_embed": "backbone.vision_backbone.trunk.pos_embed",
        "detector.transformer.decoder.norm.weight": "transformer.decoder.norm.weight",
        "tracker.transformer.encoder.norm.weight": "inst_interactive_predictor.model.transformer.encoder.norm.weight",
    }
    for name, own in names.items():
        assert family.name_in(name, video=False) == own
        assert family.name_in(name, video=True) == name
    assert len({family.name_in(name, video=False) for name in shapes_of("sam3")}) == len(shapes_of("sam3"))


_BUILDER = """
import gzip, torch
from torch import nn

class VETextEncoder(nn.Module):
    tokenizer = None

def _build(bpe_path, checkpoint_path, load_from_HF, device, **options):
    assert checkpoint_path is None and not load_from_HF and device == "cpu"
    model = nn.Module()
    model.language_backbone = VETextEncoder()
    model.options, model.words = options, gzip.open(bpe_path).read().decode("utf-8").split("\\n")
    model.register_buffer("positions", torch.zeros(1, 4, device="cuda"))
    return model

build_sam3_image_model = build_sam3_video_model = _build
"""
_TOKENIZER = """
import gzip, torch

class SimpleTokenizer:
    def __init__(self, bpe_path):
        self.merges = gzip.open(bpe_path).read().decode("utf-8").split("\\n")[1:49152 - 256 - 2 + 1]
        self.vocab_size = 512 + len(self.merges) + 2

    def encode(self, text):
        return list(map(ord, text))

    def __call__(self, texts, context_length):
        return torch.tensor([self.encode(text) for text in texts])
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package that stands for Meta's: it asks for CUDA whatever the device, and reads a vocabulary."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "sam3"]:
            del sys.modules[name]

    folder = tmp_path / "site" / "sam3"
    (folder / "model").mkdir(parents=True)
    for name, text in {"__init__": "", "model_builder": _BUILDER, "model/tokenizer_ve": _TOKENIZER}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder.parent)
    forget()
    yield folder
    forget()


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(("video", "options"), [(False, {"enable_inst_interactivity": True}), (True, {})])
def test_metas_builder_is_kept_from_the_gpu(video: bool, options: dict[str, bool]) -> None:
    model: Any = build_model(ModelEntry("sam3", "sam3", {"release": "3"}), video=video)
    assert model.positions.device.type == "cpu"
    assert len(model.words) > 49152 - 256 - 2
    assert model.options == options


def test_the_vocabulary_is_beside_the_weights_or_in_the_package(package: Path, tmp_path: Path) -> None:
    model: Any = build_model(ModelEntry("sam3", "sam3", {"release": "3"}))
    tokenizer = model.language_backbone.tokenizer
    with pytest.raises(MissingTokenizerError, match=r"copy merges\.txt of facebook/sam3, or bpe_simple"):
        tokenizer(["a cup"], context_length=32)
    merges = ["#version: 0.2", *(f"{number} a" for number in range(49152 - 256 - 2))]
    tokenizer.place = tmp_path
    (tmp_path / "merges.txt").write_text("\n".join(merges[:9]))
    with pytest.raises(MissingTokenizerError, match=r"merges\.txt cannot be read \(9 lines, expected 48895\)"):
        tokenizer(["a cup"], context_length=32)
    packed = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(merges[:-1]).encode()))
    with pytest.raises(MissingTokenizerError, match="it has 49407 words, expected 49408"):
        tokenizer(["a cup"], context_length=32)
    packed.write_bytes(packed.read_bytes()[:20] + b"damaged" + packed.read_bytes()[27:])
    with pytest.raises(MissingTokenizerError, match="cannot be read"):
        tokenizer(["a cup"], context_length=32)
    packed.unlink()
    (tmp_path / "merges.txt").write_text("\n".join(merges) + "\n")
    assert tokenizer(["a cup"], context_length=32).tolist() == [list(map(ord, "a cup"))]
    assert tokenizer_of("sam3", tmp_path / "merges.txt").merges == merges[1:]
    with pytest.raises(PredictionError, match="the text takes 7 tokens, more than 6"):
        tokenizer(["a cup"], context_length=6)
    for folder in (package / "assets", package.parent / "assets"):
        other: Any = build_model(ModelEntry("sam3", "sam3", {"release": "3"}))
        folder.mkdir()
        write_vocabulary(folder, merges)
        assert other.language_backbone.tokenizer(["b"], context_length=9).tolist() == [[98]]
        (folder / "bpe_simple_vocab_16e6.txt.gz").unlink()


def test_complex_buffers_are_kept_exact(tmp_path: Path) -> None:
    angles = torch.polar(torch.ones(64, 32), torch.linspace(0, 9, 64 * 32).view(64, 32))
    torch.save({"attn.freqs_cis": angles, "attn.qkv.weight": torch.randn(64, 64) * 0.03}, tmp_path / "model.pt")
    found = bhk.load_state_dict(bhk.convert(tmp_path / "model.pt").path)["attn.freqs_cis"]
    assert found.dtype == torch.complex64
    assert torch.equal(found, angles)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("detector.backbone.vision_backbone.trunk.blocks.31.attn.qkv.weight", "encoder: attention"),
        ("detector.backbone.vision_backbone.trunk.blocks.0.mlp.fc2.weight", "encoder: MLP, second layer"),
        ("detector.backbone.vision_backbone.trunk.pos_embed", "encoder: position embedding"),
        ("detector.backbone.vision_backbone.sam2_convs.0.dconv_2x2_0.weight", "encoder: neck"),
        ("detector.backbone.language_backbone.encoder.token_embedding.weight", "text: vocabulary"),
        ("detector.backbone.language_backbone.encoder.transformer.resblocks.0.attn.in_proj_weight", "text: attention"),
        ("detector.backbone.language_backbone.encoder.transformer.resblocks.0.mlp.c_proj.weight", "text: MLP"),
        ("detector.transformer.encoder.layers.5.cross_attn_image.in_proj_weight", "DETR: attention"),
        ("detector.transformer.decoder.layers.5.ca_text.in_proj_weight", "DETR: attention"),
        ("detector.transformer.decoder.layers.0.linear1.weight", "DETR: MLP"),
        ("tracker.sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight", "decoder: MLP"),
        ("tracker.transformer.encoder.layers.0.self_attn.q_proj.weight", "other"),
    ],
)
def test_names_of_metas_package(name: str, title: str) -> None:
    assert next(part for part in SAM3_PARTS if part.pattern.search(name)).title == title


@pytest.mark.parametrize("kind", [small_hf_sam3, small_hf_sam3_video], ids=lambda kind: kind.__name__)
def test_calibration_measures_what_texts_find(kind: Callable[[], Any], tmp_path: Path) -> None:
    kind().save_pretrained(tmp_path)
    report = bhk.convert(tmp_path / "model.safetensors", calibration=bhk.Calibration("dead-leaves", limit=1))
    assert report.calibration is not None
    assert type(bhk.load(report.path)) is type(kind())
