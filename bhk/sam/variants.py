"""The table of the Segment Anything family: how state dicts are recognised, what builds a model, and what was published.

Imports neither torch nor any package of the family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from bhk.base.packages import Package
from bhk.base.texts import counted
from bhk.container.header import ModelEntry
from bhk.sam import architecture as arch
from bhk.sam.architecture import Architecture, Shapes
from bhk.sam.packages import (
    EDGE_SAM,
    EDGE_TAM,
    EFFICIENT_SAM,
    EFFICIENT_TAM,
    EFFICIENT_VIT,
    HQ_SAM2,
    LITE_MED_SAM,
    MOBILE_SAM,
    MOBILE_SAM_V2,
    REP_VIT_SAM,
    ROBUST_SAM,
    SAM2,
    SAM3,
    SAM3_MULTIPLEX,
    SAM_MED_2D,
    SEGMENT_ANYTHING,
    SEGMENT_ANYTHING_HQ,
    TINY_SAM,
    TRANSFORMERS,
)
from bhk.sam.sam2_models import SAM2_TREE, sam2_settings, trunk_sizes
from bhk.sam.sam2_relatives import (
    EDGE_TAM_TREE,
    EFFICIENT_TAM_TREE,
    HQ_SAM2_TREE,
    edge_tam_settings,
    efficient_tam_settings,
    hq_sam2_settings,
)
from bhk.sam.tree import Settings, Tree

_DTYPE = re.compile(r"[-_.](fp16|bf16|fp32|float16|bfloat16|float32)$")  # what converters add to the name of a file

# Entries of a header's `model.arguments` besides the sizes of the model.
CONFIG = "config"  # its settings, where no sizes are enough
WITHIN = "within"  # the prefix of its names, where the file holds more than the model
FURTHER = "further"  # the number of tensors that the model has beyond those of its family, for models only based on it
BASE = "base"  # the variant that such a model is based on

PREPARED_AS = "prepared_as"  # attribute of a module: the variant whose authors' way of preparing pictures it needs

PromptKind = Literal["points", "boxes", "texts"]


@dataclass(frozen=True)
class Family:
    """An architecture in one layout of names.

    Attributes:
        name: its name in a header's model entry.
        title: what people call it.
        marks: prefixes, each of which must start the name of some tensor. A checkpoint belongs to the first family in
            `FAMILIES` with all marks present; later families are less demanding.
        type: the class of its architecture, as far as shapes tell it; a configuration takes its place.
        read: reads the architecture from shapes; None if they do not tell enough.
        packages: packages that build the same modules; the first one installed is used.
        any_size: whether a model of any size can be built, or only the variants in the table.
        tree: for models that a YAML file describes, how they are put together.
        classes: for models of transformers, what config.json may have as `model_type`, and the class that it stands for.
        video: likewise the class for clips, where there is one.
        prompts: what `bhk.segment` asks its models with: "points", which means boxes as well, "boxes" alone, or "texts"; none
            for parts of models, and where bhk has no predictor.
        twins: whether variants of equal shapes are different models, which only their names or their user can tell apart.
        renames: regular expressions of names in files that differ from the module's, and what stands for each there.
        for_pictures: likewise for the class for pictures, where the class for clips has the names in files.
        extra: patterns (see `fnmatch`) of names that a file may hold in addition to the module's, for `ignore` of
            `bhk.load_into`. No other names may differ, although the packages of SAM-HQ and EdgeSAM are less strict.
        held: patterns of names whose weights keep their codes with mode "auto", however small they are: those that are asked
            with hundreds of rows, once a picture or a text, so that decoding them takes little of the time.
    """

    name: str
    title: str
    marks: tuple[str, ...]
    type: type[Architecture]
    read: Callable[[Shapes], Architecture] | None
    packages: tuple[Package, ...]
    any_size: bool = False
    tree: Tree | None = None
    classes: Mapping[str, str] = field(default_factory=dict)
    video: Mapping[str, str] = field(default_factory=dict)
    prompts: tuple[PromptKind, ...] = ("points",)
    twins: bool = False
    renames: tuple[tuple[str, str], ...] = ()
    for_pictures: tuple[tuple[str, str], ...] = ()
    extra: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def follows(self) -> bool:
        """Whether models of the family can follow objects through a clip."""
        return bool(self.video) or (self.tree is not None and self.tree.video is not None)

    @property
    def has_clips(self) -> bool:
        """Whether its package has a class for clips."""
        return self.follows or bool(self.for_pictures)

    def own_name(self, name: str) -> str:
        """Return the name that the module has for a tensor of a file."""
        return _renamed(name, self.renames)

    def name_in(self, name: str, *, video: bool) -> str:
        """Return the name that the class for clips, or that for pictures, has for a tensor of a file."""
        return self.own_name(name) if video else _renamed(self.own_name(name), self.for_pictures)


def _renamed(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    for pattern, own in renames:
        name = re.sub(pattern, own, name)
    return name


@dataclass(frozen=True)
class Variant:
    """A model as it was published.

    Attributes:
        name: its name in a header's model entry.
        family: name of its family.
        title: what people call it.
        files: names of the published files.
        license: license of the weights.
        parameters: number of elements in the state dict; None if it varies.
        published_ratio: compression ratio published for the Birkhoff method, if any.
        architecture: its sizes; None for a layout of any size.
        hub: repository of its publishers on the Hugging Face Hub, if there is one.
        sha256: SHA-256 of its published file, where it is known; only this tells it from other weights of that file name.
        settings: those that no tensor shows, for a family with a tree.
        config: the YAML file with them, as the package calls it.
        packages: packages that build it, where those of its family build another model.
        prepares: whether its authors prepare pictures in another way than the predictor of its class. No tensor shows that, so
            only its name or its user tells it from a model of the same shapes.
        prompts: what `bhk.segment` asks it with, where that is not what it asks its family with.
    """

    name: str
    family: str
    title: str
    files: tuple[str, ...]
    license: str = "Apache-2.0"
    parameters: int | None = None
    published_ratio: float | None = None
    architecture: Architecture | None = None
    hub: str | None = None
    sha256: str | None = None
    settings: Settings | None = None
    config: str | None = None
    packages: tuple[Package, ...] = ()
    prepares: bool = False
    prompts: tuple[PromptKind, ...] | None = None


# The DETR of SAM 3 has most of its small layers. Dense, they would take a tenth of the loaded model's memory.
_DETR = ("*detr_encoder.*", "*detr_decoder.*", "*geometry_encoder.*")

_DETECTOR = ("backbone.vision_backbone.trunk.", "segmentation_head.pixel_decoder.")
_OWN_DETR = ("transformer.*", "geometry_encoder.*")  # in Meta's package

# The Hub has files of Sam2VideoModel; they load into Sam2Model too, without the modules for memory.
_VIDEO = (
    "memory_*",
    "mask_downsample.*",
    "object_pointer_proj.*",
    "temporal_positional_encoding_projection_layer.*",
    "no_memory_positional_encoding",
    "no_object_pointer",
    "occlusion_spatial_embedding_parameter",
)


def _transformers(name: str, title: str, marks: tuple[str, ...], classes: Mapping[str, str], **more: Any) -> Family:
    """Return the family of a model of transformers that only its config.json describes."""
    return Family(name, title, marks, arch.Configured, None, (TRANSFORMERS,), any_size=True, classes=classes, **more)


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "hq_sam2",
            "HQ-SAM2",
            ("sam_mask_decoder.hf_token.",),
            arch.Published,
            None,
            (HQ_SAM2,),
            tree=HQ_SAM2_TREE,
        ),
        Family(
            "edge_tam",
            "EdgeTAM",
            ("sam_mask_decoder.", "spatial_perceiver."),
            arch.Published,
            None,
            (EDGE_TAM,),
            tree=EDGE_TAM_TREE,
        ),
        Family(
            "efficient_tam",
            "EfficientTAM",
            ("sam_mask_decoder.", "image_encoder.trunk.blocks.0.attn.qkv.", "image_encoder.neck.convs.0.norm_0."),
            arch.Published,
            None,
            (EFFICIENT_TAM,),
            tree=EFFICIENT_TAM_TREE,
        ),
        Family(
            "sam2", "SAM2", ("sam_mask_decoder.",), arch.Sam2, arch.read_sam2, (SAM2,), any_size=True, tree=SAM2_TREE
        ),
        Family(
            "mobile_sam_v2",
            "MobileSAMv2 decoder",
            ("MaskDecoder.",),
            arch.PromptGuidedDecoder,
            arch.read_prompt_guided_decoder,
            (MOBILE_SAM_V2, SEGMENT_ANYTHING),
            prompts=(),
        ),
        Family(
            "sam3",
            "SAM 3",
            ("detector.backbone.vision_backbone.", "tracker.maskmem_backbone."),
            arch.Sam3,
            arch.read_sam3,
            (SAM3,),
            held=(*_OWN_DETR, *(f"detector.{name}" for name in _OWN_DETR)),
            prompts=("points", "texts"),
            for_pictures=((r"^tracker\.", "inst_interactive_predictor.model."), (r"^detector\.", "")),
        ),
        Family(
            "sam3_multiplex",
            "SAM 3.1",
            ("detector.backbone.vision_backbone.propagation_convs.", "tracker.model.maskmem_backbone."),
            arch.Sam3,
            arch.read_sam3,
            (SAM3_MULTIPLEX,),
            held=tuple(f"detector.{name}" for name in _OWN_DETR),
            prompts=(),
        ),
        Family(  # what bhk.load makes of a whole SAM 3
            "sam3_image",
            "SAM 3 for pictures",
            (*_DETECTOR, "inst_interactive_predictor."),
            arch.Sam3Image,
            arch.read_sam3_image,
            (SAM3,),
            held=_OWN_DETR,
            prompts=("points", "texts"),
        ),
        Family(  # what Meta's trainer saves
            "sam3_detector",
            "SAM 3's detector",
            _DETECTOR,
            arch.Sam3Image,
            arch.read_sam3_image,
            (SAM3,),
            held=_OWN_DETR,
            prompts=("texts",),
        ),
        _transformers(
            "transformers_sam2",
            "transformers Sam2Model",
            ("mask_decoder.", "vision_encoder.backbone.blocks."),
            {"sam2": "Sam2Model", "sam2_video": "Sam2Model"},
            video={"sam2_video": "Sam2VideoModel"},
            extra=_VIDEO,
        ),
        _transformers(
            "transformers_edgetam",
            "transformers EdgeTamModel",
            ("mask_decoder.", "vision_encoder.backbone.timm_model."),
            {"edgetam": "EdgeTamModel", "edgetam_video": "EdgeTamModel"},
            video={"edgetam_video": "EdgeTamVideoModel"},
            extra=(*_VIDEO, "spatial_perceiver.*"),
        ),
        _transformers(
            "transformers_sam3",
            "transformers Sam3Model",
            ("detr_decoder.", "text_encoder.", "vision_encoder.backbone.layers."),
            {"sam3": "Sam3Model", "sam3_lite_text": "Sam3LiteTextModel"},
            held=_DETR,
            prompts=("texts",),
        ),
        _transformers(
            "transformers_sam3_tracker",
            "transformers Sam3TrackerModel",
            ("mask_decoder.pred_obj_score_head.", "vision_encoder.backbone.layers."),
            {"sam3_tracker": "Sam3TrackerModel", "sam3_tracker_video": "Sam3TrackerModel"},
            video={"sam3_tracker_video": "Sam3TrackerVideoModel"},
            extra=_VIDEO,
            # transformers saves it with the names that it has as a part of Sam3VideoModel.
            renames=(
                (r"^detector_model\.vision_encoder\.backbone\.", "vision_encoder.backbone."),
                (r"^tracker_neck\.", "vision_encoder.neck."),
            ),
        ),
        _transformers(
            "transformers_sam3_video",
            "transformers Sam3VideoModel",
            ("detector_model.detr_decoder.", "tracker_model.", "tracker_neck."),
            {"sam3_video": "Sam3VideoModel"},
            video={"sam3_video": "Sam3VideoModel"},
            held=_DETR,
            prompts=("points", "texts"),
            renames=((r"^tracker_model\.tracker_model\.", "tracker_model."),),  # transformers 5.24 saves it so
        ),
        Family(
            "transformers_sam_hq",
            "transformers SamHQModel",
            ("mask_decoder.hq_token.", "vision_encoder.layers."),
            arch.VitSam,
            arch.read_transformers_sam,
            (TRANSFORMERS,),
            any_size=True,
            classes={"sam_hq": "SamHQModel"},
        ),
        Family(
            "transformers_sam",
            "transformers SamModel",
            ("mask_decoder.", "vision_encoder.layers."),
            arch.VitSam,
            arch.read_transformers_sam,
            (TRANSFORMERS,),
            any_size=True,
            classes={"sam": "SamModel"},
        ),
        Family(
            "repvit_sam",
            "RepViT-SAM",
            ("mask_decoder.", "image_encoder.features.1.token_mixer.0.conv1.weight"),
            arch.Published,
            None,
            (REP_VIT_SAM,),
        ),
        Family(
            "edge_sam",
            "EdgeSAM",
            ("mask_decoder.", "image_encoder.features."),
            arch.RepVitSam,
            arch.read_rep_vit_sam,
            (EDGE_SAM,),
            extra=("fpn.*", "rpn_head.*"),  # the head for region proposals, which prompts do not use
        ),
        Family(
            "efficient_sam",
            "EfficientSAM",
            ("mask_decoder.", "prompt_encoder.invalid_points."),
            arch.EfficientSam,
            arch.read_efficient_sam,
            (EFFICIENT_SAM,),
        ),
        Family(
            "sam_hq_tiny",
            "SAM-HQ-Tiny",
            ("mask_decoder.hf_token.", "image_encoder.layers."),
            arch.TinyVitSam,
            arch.read_tiny_vit_sam,
            (SEGMENT_ANYTHING_HQ,),
        ),
        Family(
            "efficientvit_sam",
            "EfficientViT-SAM",
            ("mask_decoder.", "image_encoder.backbone.stages."),
            arch.Published,
            None,
            (EFFICIENT_VIT,),
        ),
        Family(
            "mobile_sam",
            "MobileSAM",
            ("mask_decoder.", "image_encoder.layers."),
            arch.TinyVitSam,
            arch.read_tiny_vit_sam,
            (MOBILE_SAM, SEGMENT_ANYTHING_HQ),
            twins=True,  # TinySAM's mask decoder leaves out its first mask
        ),
        Family(
            "lite_medsam",
            "LiteMedSAM",
            ("mask_decoder.", "image_encoder.layers."),
            arch.Published,
            None,
            (LITE_MED_SAM,),
            prompts=("boxes",),
        ),
        Family("robust_sam", "RobustSAM", ("mask_decoder.custom_robust_token.",), arch.Published, None, (ROBUST_SAM,)),
        Family(
            "sam_med2d",
            "SAM-Med2D",
            ("mask_decoder.", "image_encoder.blocks.0.Adapter."),
            arch.Published,
            None,
            (SAM_MED_2D,),
        ),
        Family(
            "sam_hq",
            "SAM-HQ",
            ("mask_decoder.hf_token.",),
            arch.VitSam,
            arch.read_vit_sam,
            (SEGMENT_ANYTHING_HQ,),
            any_size=True,
        ),
        Family("sam", "SAM", ("mask_decoder.",), arch.VitSam, arch.read_vit_sam, (SEGMENT_ANYTHING,), any_size=True),
        Family(
            "sam_encoder",
            "SAM image encoder",
            ("pos_embed", "patch_embed.proj.", "blocks.0.attn.rel_pos_h", "neck.0."),
            arch.VitEncoder,
            arch.read_vit_encoder,
            (SEGMENT_ANYTHING,),
            any_size=True,
            prompts=(),
        ),
    )
}

_VIT_B = arch.VitSam(768, 12, 12, (2, 5, 8, 11))
_VIT_L = arch.VitSam(1024, 24, 16, (5, 11, 17, 23))
_VIT_H = arch.VitSam(1280, 32, 16, (7, 15, 23, 31))


# SHA-256 of files as their publishers serve them. The digits in the names of Segment Anything's files begin an MD5.
_SHA256 = {
    "sam_vit_b": "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    "sam_vit_l": "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    "sam_vit_h": "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    "sam2_hiera_tiny": "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    "sam2_hiera_small": "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    "sam2_hiera_base_plus": "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    "sam2_hiera_large": "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
    "sam2.1_hiera_tiny": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "sam2.1_hiera_small": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "sam2.1_hiera_base_plus": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "sam2.1_hiera_large": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    "mobile_sam": "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
}


def _sam2(release: Literal["2", "2.1"], size: str, title: str, parameters: int, ratio: float | None) -> Variant:
    name, settings = f"sam{release}_hiera_{size}", sam2_settings(release, size)
    letter = "b+" if size == "base_plus" else size[0]
    return Variant(
        name,
        "sam2",
        f"SAM{release}-{title}",
        (f"{name}.pt",),
        parameters=parameters,
        published_ratio=ratio,
        architecture=arch.Sam2(*trunk_sizes(settings), release),
        hub=f"facebook/{name.replace('_', '-')}",
        sha256=_SHA256[name],
        settings=settings,
        config=f"configs/sam{release}/sam{release}_hiera_{letter}.yaml",
    )


def _sam(size: str, title: str, digits: str, parameters: int, ratio: float, architecture: arch.VitSam) -> Variant:
    name, hub = f"sam_vit_{size[0]}", f"facebook/sam-vit-{size}"
    files = (f"{name}_{digits}.pth",)
    return Variant(name, "sam", title, files, "Apache-2.0", parameters, ratio, architecture, hub, _SHA256[name])


def _transformers_sam3(which: str, kind: str) -> Variant:
    name, files = f"transformers_sam3{which}", ("model.safetensors",)
    return Variant(name, name, f"transformers {kind}", files, "SAM-License")


def _published(
    name: str,
    family: str,
    title: str,
    parameters: int,
    license: str = "Apache-2.0",
    *,
    files: tuple[str, ...] = (),
    like: str | None = None,
    settings: Settings | None = None,
    config: str | None = None,
) -> Variant:
    """Return a model that is only built as it was published, and has the names and shapes of the one called `like`."""
    architecture = arch.Published(like or name)
    found = files or (f"{name}.pt",)
    more: dict[str, Any] = {"architecture": architecture, "settings": settings, "config": config}
    return Variant(name, family, title, found, license, parameters, **more)


def _efficient_tam(size: str, width: int, parameters: int, end: str, title: str, side: int, pooling: int) -> Variant:
    name = f"efficienttam_{size}{end}"
    return _published(
        name,
        "efficient_tam",
        f"EfficientTAM-{size.title()}{title}",
        parameters,
        like=f"efficienttam_{size}",
        settings=efficient_tam_settings(width, side, pooling),
        config=f"configs/efficienttam/{name}.yaml",
    )


# Names and shapes cannot tell two variants of one family and architecture apart. The first is recognised; the modules are
# the same.
VARIANTS = {
    variant.name: variant
    for variant in (
        _sam("base", "SAM-B", "01ec64", 93735728, 4.31, _VIT_B),
        _sam("large", "SAM-L", "0b3195", 312343088, 4.68, _VIT_L),
        _sam("huge", "SAM-H", "4b8939", 641090864, 4.75, _VIT_H),
        Variant(
            "medsam",
            "sam",
            "MedSAM",
            ("medsam_vit_b.pth",),
            parameters=93735728,
            architecture=_VIT_B,
            hub="wanglab/medsam-vit-base",
            prepares=True,
            prompts=("boxes",),
        ),
        Variant(
            "ft_sam",
            "sam",
            "FT-SAM",  # SAM-Med2D's authors published it beside theirs
            (),
            parameters=90737456,
            architecture=arch.VitSam(768, 12, 12, (2, 5, 8, 11), image_size=256),
            prepares=True,
        ),
        # A folder with the two files that they are published in; see `bhk.sam.parts`.
        Variant(
            "mobile_sam_v2_vit_h",
            "sam",
            "MobileSAMv2 (ViT-H)",
            (),
            parameters=641090864,
            published_ratio=4.72,
            architecture=_VIT_H,
        ),
        Variant("sam_hq_vit_b", "sam_hq", "SAM-HQ-B", ("sam_hq_vit_b.pth",), "Apache-2.0", 94806832, 4.32, _VIT_B),
        Variant("sam_hq_vit_l", "sam_hq", "SAM-HQ-L", ("sam_hq_vit_l.pth",), "Apache-2.0", 313676336, 4.68, _VIT_L),
        Variant("sam_hq_vit_h", "sam_hq", "SAM-HQ-H", ("sam_hq_vit_h.pth",), "Apache-2.0", 642686256, 4.75, _VIT_H),
        Variant(
            "sam_hq_vit_tiny",
            "sam_hq_tiny",
            "SAM-HQ-Tiny",
            ("sam_hq_vit_tiny.pth",),
            parameters=10588743,
            published_ratio=3.34,
            architecture=arch.TinyVitSam(),
        ),
        _sam2("2", "tiny", "T", 38946242, 5.08),
        _sam2("2", "small", "S", 46044098, 5.03),
        _sam2("2", "base_plus", "B+", 80833922, 5.17),
        _sam2("2", "large", "L", 224430386, 5.00),
        _sam2("2.1", "tiny", "T", 38962754, None),
        _sam2("2.1", "small", "S", 46060610, None),
        _sam2("2.1", "base_plus", "B+", 80850434, None),
        _sam2("2.1", "large", "L", 224446898, None),
        Variant(
            "mobile_sam",
            "mobile_sam",
            "MobileSAM",
            ("mobile_sam.pt",),
            parameters=10140231,
            published_ratio=3.33,
            architecture=arch.TinyVitSam(),
            sha256=_SHA256["mobile_sam"],
        ),
        Variant(
            "tinysam",
            "mobile_sam",
            "TinySAM",
            ("tinysam_42.3.pth",),
            parameters=10140231,
            published_ratio=3.47,
            architecture=arch.TinyVitSam(),
            packages=(TINY_SAM,),
        ),
        Variant(
            "mobile_sam_v2_vit_t",
            "mobile_sam",
            "MobileSAMv2 (TinyViT)",
            (),
            parameters=10140231,
            architecture=arch.TinyVitSam(),
        ),
        Variant(
            "mobile_sam_v2",
            "mobile_sam_v2",
            "MobileSAMv2's decoder",
            ("Prompt_guided_Mask_Decoder.pt",),
            parameters=4064816,
            architecture=arch.PromptGuidedDecoder(),
        ),
        Variant(
            "edge_sam",
            "edge_sam",
            "EdgeSAM",
            ("edge_sam.pth", "edge_sam_3x.pth"),
            "S-Lab-1.0",
            9629466,
            3.63,
            arch.RepVitSam(),
            "chongzhou/EdgeSAM",
        ),
        Variant(
            "edge_sam_rpn",
            "edge_sam",
            "EdgeSAM-RPN",
            (),
            "S-Lab-1.0",
            None,
            3.76,
            arch.RepVitSam(proposals=True),
        ),
        Variant(
            "efficient_sam_vitt",
            "efficient_sam",
            "EfficientSAM-Ti",
            ("efficient_sam_vitt.pt",),
            parameters=10223460,
            published_ratio=5.13,
            architecture=arch.EfficientSam(192),
        ),
        Variant(
            "efficient_sam_vits",
            "efficient_sam",
            "EfficientSAM-S",
            ("efficient_sam_vits.pt.zip",),
            parameters=26413284,
            published_ratio=5.08,
            architecture=arch.EfficientSam(384),
        ),
        Variant(
            "sam_encoder",
            "sam_encoder",
            "SAM image encoder",
            ("sam_vit_h.pt",),  # of MobileSAMv2
            parameters=637026048,
            architecture=arch.VitEncoder(1280, 32, 16, (7, 15, 23, 31)),
        ),
        *(
            _published(f"robust_sam_vit_{size}", "robust_sam", f"RobustSAM-{size.upper()}", number, "MIT")
            for size, number in (("b", 153183575), ("l", 412663159), ("h", 793883031))
        ),
        *(
            _published(f"efficientvit_sam_{size}", "efficientvit_sam", f"EfficientViT-SAM-{size.upper()}", number)
            for size, number in (
                ("l0", 34816052),
                ("l1", 47682626),
                ("l2", 61372244),
                ("xl0", 117011772),
                ("xl1", 203440990),
            )
        ),
        Variant(
            "mobile_sam_v2_efficientvit_l2",
            "efficientvit_sam",
            "MobileSAMv2 (EfficientViT-L2)",
            (),
            parameters=61372244,
            architecture=arch.Published("efficientvit_sam_l2"),
            packages=(MOBILE_SAM_V2,),
        ),
        _published("repvit_sam", "repvit_sam", "RepViT-SAM", 27375874),
        _published("lite_medsam", "lite_medsam", "LiteMedSAM", 9801439),
        _published("sam_med2d", "sam_med2d", "SAM-Med2D", 271242032, files=("sam-med2d_b.pth",)),
        _published(
            "sam2.1_hq_hiera_large",
            "hq_sam2",
            "HQ-SAM2.1-L",
            224624050,
            settings=hq_sam2_settings(),
            config="configs/sam2.1/sam2.1_hq_hiera_l.yaml",
        ),
        _published(
            "edgetam", "edge_tam", "EdgeTAM", 13943148, settings=edge_tam_settings(), config="configs/edgetam.yaml"
        ),
        *(
            _efficient_tam(size, width, parameters, end, title, side, pooling)
            for size, width, parameters in (("s", 384, 34056098), ("ti", 192, 17866274))
            for end, title, side, pooling in (
                ("", "", 1024, 0),
                ("_1", "/1", 1024, 1),
                ("_2", "/2", 1024, 2),
                ("_512x512", "-512", 512, 0),
            )
        ),
        Variant("transformers_sam", "transformers_sam", "transformers SamModel", ("model.safetensors",)),
        Variant("transformers_sam_hq", "transformers_sam_hq", "transformers SamHQModel", ("model.safetensors",)),
        Variant("transformers_sam2", "transformers_sam2", "transformers Sam2Model", ("model.safetensors",)),
        Variant("transformers_edgetam", "transformers_edgetam", "transformers EdgeTamModel", ("model.safetensors",)),
        Variant(
            "sam3",
            "sam3",
            "SAM 3",
            ("sam3.pt",),
            "SAM-License",
            861235128,
            architecture=arch.Sam3(),
            hub="facebook/sam3",
        ),
        Variant(
            "sam3.1",
            "sam3_multiplex",
            "SAM 3.1",
            ("sam3.1_multiplex.pt",),
            "SAM-License",
            874365676,
            architecture=arch.Sam3("3.1"),
            hub="facebook/sam3.1",
        ),
        Variant(
            "sam3_image",
            "sam3_image",
            "SAM 3 for pictures",
            (),
            "SAM-License",
            861235128,
            architecture=arch.Sam3Image(True),
        ),
        Variant(
            "sam3_detector",
            "sam3_detector",
            "SAM 3's detector",
            (),
            "SAM-License",
            841689398,
            architecture=arch.Sam3Image(False),
        ),
        _transformers_sam3("", "Sam3Model"),
        _transformers_sam3("_tracker", "Sam3TrackerModel"),
        _transformers_sam3("_video", "Sam3VideoModel"),
    )
}


def title_of(entry: ModelEntry) -> str:
    """Return what people call a header's model, such as "MobileSAM or TinySAM" for equal shapes."""
    further, base = entry.arguments.get(FURTHER), entry.arguments.get(BASE)
    if isinstance(further, int):
        title = _titles(ModelEntry(entry.family, base if isinstance(base, str) else None))
        return f"based on {title}, with {counted(further, 'further tensor')}"
    title, found = _titles(entry), _variant_of(entry)
    if found is None or found.settings is None or _is_published(entry, found):
        return title
    settings = _settings_in(entry)
    if not settings:
        return f"{title}, of unknown settings"
    side = settings.get("image_size")
    return f"{title}, of other settings" if side == found.settings["image_size"] else f"{title} at {side} pixels"


def _titles(entry: ModelEntry) -> str:
    found = _variant_of(entry)
    if found is None:
        family = FAMILIES.get(entry.family)
        return (
            f"{family.title}, of no published size" if family else f"{entry.family}, which this version does not know"
        )
    return " or ".join(twin.title for twin in _alike(entry, found))


def published_files(entry: ModelEntry) -> tuple[str, ...]:
    """Return the names of the published files of a header's model, and of variants that it may be as well."""
    found = _variant_of(entry)
    if found is None or WITHIN in entry.arguments or not _is_published(entry, found):
        return ()
    others = (twin for twin in _alike(entry, found) if twin != found)
    return tuple(file for twin in (found, *others) for file in twin.files)


def _alike(entry: ModelEntry, variant: Variant) -> list[Variant]:
    """Return the variants that a model of an entry may be: those of equal shapes, unless it was found out which it is."""
    told_apart = variant.prepares or FAMILIES[variant.family].twins or variant.settings is not None
    if not variant.files or (entry.arguments and told_apart):
        return [variant]
    return [other for other in VARIANTS.values() if _same(other, variant) and other.files and not other.prepares]


def _variant_of(entry: ModelEntry) -> Variant | None:
    found = VARIANTS.get(entry.variant) if entry.variant else None
    return found if found is not None and found.family == entry.family else None


def _is_published(entry: ModelEntry, variant: Variant) -> bool:
    """Return whether a model that has the shapes of a variant also has its settings, as far as they are known."""
    return variant.settings is None or _settings_in(entry) == variant.settings


def _settings_in(entry: ModelEntry) -> dict[str, Any]:
    found = entry.arguments.get(CONFIG)
    return found if isinstance(found, dict) else {}


def _same(one: Variant, other: Variant) -> bool:
    return (one.family, one.architecture) == (other.family, other.architecture)


def find_variant(family: str, architecture: Architecture | None) -> Variant | None:
    """Return the first variant of a family with this architecture, or None for an unpublished size.

    It is none of those that prepare pictures in their own way.
    """
    of_family = (variant for variant in VARIANTS.values() if variant.family == family and not variant.prepares)
    return next((variant for variant in of_family if variant.architecture in (None, architecture)), None)


def variants_of(family: str, architecture: Architecture | None) -> list[Variant]:
    """Return the variants of a family with this architecture, which equal tensors have."""
    return [v for v in VARIANTS.values() if (v.family, v.architecture) == (family, architecture) and architecture]


def is_buildable(entry: ModelEntry) -> bool:
    """Return whether an entry says all that its model is built from."""
    return entry.family in FAMILIES and FURTHER not in entry.arguments and bool(entry.arguments.keys() - {WITHIN})


def prepares_of(entry: ModelEntry) -> bool:
    """Return whether the authors of a header's model prepare pictures in their own way."""
    found = _variant_of(entry)
    return found is not None and found.prepares


def prompts_of(entry: ModelEntry) -> tuple[PromptKind, ...]:
    """Return what `bhk.segment` asks a header's model with; nothing for an unknown family."""
    found = _variant_of(entry)
    family = FAMILIES.get(entry.family)
    return (found.prompts if found else None) or (family.prompts if family else ())


def packages_of(entry: ModelEntry) -> tuple[Package, ...]:
    """Return the packages that build a header's model, of a known family."""
    found = _variant_of(entry)
    return (found.packages if found else ()) or FAMILIES[entry.family].packages


def called_like(twins: Collection[Variant], name: str) -> Variant | None:
    """Return the one of several variants of equal shapes whose file is called like `name` apart from the suffix, or None.

    If equal shapes do not make equal models, its title within the name is enough, unless pictures are prepared in other ways.
    """
    stem = _DTYPE.sub("", PurePath(name).stem)
    found = [twin for twin in twins if stem in {PurePath(file).stem for file in twin.files}]
    if not found:
        others = [twin for twin in twins if not twin.prepares and FAMILIES[twin.family].twins]
        found = [twin for twin in others if _letters(twin.title) in _letters(name)]
    return found[0] if len(found) == 1 else None


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def published_with(sha256: str) -> Variant | None:
    """Return the variant whose published file has this SHA-256, or None."""
    return next((variant for variant in VARIANTS.values() if variant.sha256 == sha256), None)


def published_as(family: str, variant: str | None, file: str) -> Variant | None:
    """Return the variant, equal in shapes to a header's family and variant, that was published as `file`, or None.

    Any weights can have that file name; `published_with` tells whether they are the published ones.
    """
    found = VARIANTS.get(variant) if variant else None
    if found is None or found.family != family or found.architecture is None:  # all files of such a layout share a name
        return None
    return next((twin for twin in VARIANTS.values() if _same(twin, found) and file in twin.files), None)
