"""How the code in the repositories of `tools.relatives` is called. Each module is imported from a clone that is on the path."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bhk.container.header import ModelEntry
from bhk.sam.build import build_model
from bhk.sam.variants import VARIANTS

Masks = NDArray[np.bool_]
_UNUSED = {"pandas", "matplotlib"}


def decoder_of(model: Any) -> Any:
    """Return the mask decoder of a model."""
    return getattr(model, "mask_decoder", None) or model.sam_mask_decoder


def _steps(script: str, *names: str) -> CodeType:
    """Return the imports, functions and classes of a script, and what it assigns to `names`.

    Left out are the steps that read files and options, and what draws or tabulates.
    """
    spec = importlib.util.find_spec(script)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    kinds = (ast.FunctionDef, ast.ClassDef, ast.ImportFrom, ast.Import)
    tree.body = [
        node
        for node in tree.body
        if (isinstance(node, kinds) and not _UNUSED & set(ast.unparse(node).replace(".", " ").split()))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in names)
    ]
    return compile(tree, script, "exec")


class Authors:
    """A model of `segment_anything` or of a copy, with the predictor and the mask generator of its package.

    Attributes:
        package: the module with the registry, the predictor and the generator.
        single: whether a box is answered with the single mask.
    """

    package: str
    single = True

    def __init__(self, variant: str) -> None:
        self.variant = variant
        self.model: nn.Module = self.build().eval()

    @property
    def decoder(self) -> nn.Module:
        return decoder_of(self.model)  # type: ignore[no-any-return]

    def build(self) -> nn.Module:
        raise NotImplementedError

    def save(self, path: Path) -> Path:
        """Write a checkpoint as it is published, and return its place."""
        torch.save(self.model.state_dict(), path)
        return path

    def predictor(self) -> Any:
        return importlib.import_module(self.package).SamPredictor(self.model)

    def generator(self) -> Any:
        return importlib.import_module(self.package).SamAutomaticMaskGenerator

    def answer(
        self,
        image: Any,
        *,
        points: Sequence[Sequence[float]] = (),
        boxes: Sequence[Sequence[float]] = (),
        everything: bool = False,
        points_per_side: int = 0,
    ) -> Masks:
        """Return the masks of a prompt, the best of several for a point."""
        if everything:
            found = self.generator()(self.model, points_per_side=points_per_side).generate(image)
            best_first = sorted(found, key=lambda record: -record["predicted_iou"])
            return np.array([record["segmentation"] for record in best_first], dtype=bool)
        predictor = self.predictor()
        predictor.set_image(image)
        masks, scores, *_ = self.ask(
            predictor,
            point_coords=np.array(points) if points else None,
            point_labels=np.ones(len(points)) if points else None,
            box=np.array(boxes[0]) if boxes else None,
            multimask=bool(points) or not self.single,
        )
        return np.asarray(masks).reshape(-1, *image.shape[:2])[[np.argmax(scores)]] > 0

    def ask(self, predictor: Any, *, multimask: bool, **prompt: Any) -> tuple[Any, ...]:
        """Return masks, scores, and more."""
        return predictor.predict(**prompt, multimask_output=multimask)  # type: ignore[no-any-return]


class RepVit(Authors):
    package = "repvit_sam"

    def build(self) -> nn.Module:
        return importlib.import_module("repvit_sam").sam_model_registry["repvit"]()  # type: ignore[no-any-return]


class EfficientVit(Authors):
    package = "efficientvit.models.efficientvit.sam"

    def build(self) -> nn.Module:
        zoo = importlib.import_module("efficientvit.sam_model_zoo")
        return zoo.create_efficientvit_sam_model(self.variant.replace("_", "-"), False)  # type: ignore[no-any-return]

    def predictor(self) -> Any:
        return importlib.import_module(self.package).EfficientViTSamPredictor(self.model)

    def generator(self) -> Any:
        return importlib.import_module(self.package).EfficientViTSamAutomaticMaskGenerator


class HqSam2(Authors):
    """Models of SAM 2's kind; where a class has another name, so has its module."""

    package, start, file = "sam2", "SAM2", "sam2"
    config = "configs/sam2.1/sam2.1_hq_hiera_l.yaml"

    def build(self) -> nn.Module:
        return importlib.import_module("sam2.build_sam").build_sam2(self.config, device="cpu")  # type: ignore[no-any-return]

    def save(self, path: Path) -> Path:
        torch.save({"model": self.model.state_dict()}, path)
        return path

    def predictor(self) -> Any:
        module = importlib.import_module(f"{self.package}.{self.file}_image_predictor")
        return getattr(module, f"{self.start}ImagePredictor")(self.model)

    def generator(self) -> Any:
        module = importlib.import_module(f"{self.package}.automatic_mask_generator")
        return getattr(module, f"{self.start}AutomaticMaskGenerator")


class EdgeTam(HqSam2):
    config = "configs/edgetam.yaml"

    def build(self) -> nn.Module:
        module: Any = importlib.import_module("sam2.modeling.backbones.timm")
        create = module.create_model
        module.create_model = lambda *args, **options: create(*args, **{**options, "pretrained": False})
        return super().build()


class EfficientTam(HqSam2):
    package, start, file = "efficient_track_anything", "EfficientTAM", "efficienttam"

    def build(self) -> nn.Module:
        build = importlib.import_module("efficient_track_anything.build_efficienttam").build_efficienttam
        config = f"configs/efficienttam/{self.variant}.yaml"
        options = ["++model.compile_image_encoder=false"]
        return build(config, device="cpu", hydra_overrides_extra=options)  # type: ignore[no-any-return]


class Robust(Authors):
    """RobustSAM, asked as its `eval.py` does: each prompt has one mask."""

    package = "robust_segment_anything"

    def build(self) -> nn.Module:
        registry = importlib.import_module(self.package).sam_model_registry
        return registry[self.variant.removeprefix("robust_sam_")](opt=None)  # type: ignore[no-any-return]

    def answer(self, image: Any, **question: Any) -> Masks:
        if question.get("everything"):
            return super().answer(image, **question)
        model: Any = self.model
        transform = importlib.import_module(f"{self.package}.utils.transforms").ResizeLongestSide(
            model.image_encoder.img_size
        )
        size = image.shape[:2]
        asked = {
            "image": transform.apply_image_torch(torch.tensor(image).permute(2, 0, 1)[None].float()),
            "original_size": size,
        }
        if points := question.get("points"):
            asked["point_coords"] = transform.apply_coords_torch(torch.tensor(points), size)[None]
            asked["point_labels"] = torch.ones(1, len(points))
        if boxes := question.get("boxes"):
            asked["boxes"] = transform.apply_boxes_torch(torch.tensor(boxes), size)[None]
        return model.predict(None, [asked], multimask_output=False)[0]["masks"][0].numpy()  # type: ignore[no-any-return]


class SamMed2d(Authors):
    package = "segment_anything"
    single = False
    adapters = True

    def build(self) -> nn.Module:
        options = SimpleNamespace(image_size=256, sam_checkpoint=None, encoder_adapter=self.adapters)
        return importlib.import_module(self.package).sam_model_registry["vit_b"](options)  # type: ignore[no-any-return]

    def predictor(self) -> Any:
        return importlib.import_module("segment_anything.predictor_sammed").SammedPredictor(self.model)


class LiteMed(Authors):
    """LiteMedSAM, whose class and steps are taken out of its script."""

    _script = "CVPR24_LiteMedSAM_infer"
    _parts = (
        "medsam_lite_image_encoder",
        "medsam_lite_prompt_encoder",
        "medsam_lite_mask_decoder",
        "medsam_lite_model",
    )

    def build(self) -> nn.Module:
        self.script: dict[str, Any] = {}
        exec(_steps(self._script, *self._parts, "image_size"), self.script)
        return self.script["medsam_lite_model"]  # type: ignore[no-any-return]

    def answer(self, image: Any, **question: Any) -> Masks:
        do, size = self.script, image.shape[:2]
        small = do["resize_longest_side"](image, 256)
        values = (small - small.min()) / np.clip(small.max() - small.min(), 1e-8, None)
        padded = torch.tensor(do["pad_image"](values, 256)).float().permute(2, 0, 1)[None]
        embedding = self.model.image_encoder(padded)  # type: ignore[operator]
        box = do["resize_box_to_256"](np.array(question["boxes"][0]), size)
        found, _ = do["medsam_inference"](self.model, embedding, box[None], small.shape[:2], size)
        return found[None].astype(bool)  # type: ignore[no-any-return]


class Med(Authors):
    """MedSAM, whose steps are taken out of its script."""

    package = "segment_anything"
    _script = "MedSAM_Inference"
    _names = ("img_1024", "img_1024_tensor", "box_1024")

    def build(self) -> nn.Module:
        """Build with the copy of `segment_anything` beside the script, which always reads a checkpoint."""
        sizes = msgspec.to_builtins(VARIANTS["medsam"].architecture)
        with tempfile.NamedTemporaryFile() as file:
            torch.save(build_model(ModelEntry("sam", "sam_vit_b", sizes)).state_dict(), file)
            file.flush()
            return importlib.import_module(self.package).sam_model_registry["vit_b"](file.name)  # type: ignore[no-any-return]

    def answer(self, image: Any, **question: Any) -> Masks:
        height, width = image.shape[:2]
        done: dict[str, Any] = {"img_3c": image, "H": height, "W": width, "device": "cpu"}
        done["box_np"] = np.array(question["boxes"])
        exec(_steps(self._script, *self._names), done)
        embedding = self.model.image_encoder(done["img_1024_tensor"])  # type: ignore[operator]
        found = done["medsam_inference"](self.model, embedding, done["box_1024"], height, width)
        return found[None].astype(bool)  # type: ignore[no-any-return]


class FtSam(SamMed2d):
    """SAM-Med2D's authors' fine-tune of all weights, without adapters."""

    adapters = False


class Tiny(Authors):
    package = "tinysam"

    def build(self) -> nn.Module:
        return importlib.import_module(self.package).sam_model_registry["vit_t"]()  # type: ignore[no-any-return]

    def ask(self, predictor: Any, *, multimask: bool, **prompt: Any) -> tuple[Any, ...]:
        return predictor.predict(**prompt)  # type: ignore[no-any-return]


class Efficient(Authors):
    """EfficientSAM, whose module is called with a picture and points."""

    def build(self) -> nn.Module:
        build: Any = importlib.import_module("efficient_sam.efficient_sam").build_efficient_sam
        width = {"t": 192, "s": 384}[self.variant[-1]]
        return build(encoder_patch_embed_dim=width, encoder_num_heads=width // 64)  # type: ignore[no-any-return]

    def answer(self, image: Any, **question: Any) -> Masks:
        points = torch.tensor(question["points"])[None, None]
        pixels = torch.tensor(image).permute(2, 0, 1)[None] / 255
        logits, scores = self.model(pixels, points, torch.ones(points.shape[:3]))
        return (logits[0, 0, scores[0, 0].argmax()] >= 0).numpy()[None]  # type: ignore[no-any-return]


class MobileSamV2(Authors):
    """MobileSAMv2 with an EfficientViT-L2, put together as in its `Inference.py`."""

    package = "mobilesamv2"

    def build(self) -> nn.Module:
        registry = importlib.import_module(self.package).sam_model_registry
        load = torch.load
        torch.load = lambda *_, **__: {"state_dict": None}
        try:
            encoder = registry["efficientvit_l2"]()
        finally:
            torch.load = load
        model, parts = registry["vit_b"](), registry["PromptGuidedDecoder"]()
        model.image_encoder, model.prompt_encoder = encoder, parts["PromtEncoder"]
        model.mask_decoder = parts["MaskDecoder"]
        return model  # type: ignore[no-any-return]

    def save(self, path: Path) -> Path:
        path.mkdir()
        parts: Any = self.model
        encoder = {f"image_encoder.{name}": tensor for name, tensor in parts.image_encoder.state_dict().items()}
        torch.save({"state_dict": encoder}, path / "l2.pt")
        both = {"PromtEncoder": parts.prompt_encoder.state_dict(), "MaskDecoder": parts.mask_decoder.state_dict()}
        torch.save(both, path / "Prompt_guided_Mask_Decoder.pt")
        return path
