"""One interface to the predictors of all packages: `predictor_for`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bhk.base.errors import BhkError
from bhk.base.packages import MissingPackageError
from bhk.nn.model_tensors import private_twin
from bhk.pictures.image import Rgb
from bhk.pictures.prompts import Prompt
from bhk.sam.variants import PREPARED_AS

# What the mask decoder of a model can return for a prompt: one mask, or all that it proposes.
Output: TypeAlias = Literal["single", "multimask"]
BOTH: tuple[Output, ...] = ("single", "multimask")

# Masks, bool (n, height, width), and the model's own estimate of their quality, its predicted IoU, float32 (n,).
Masks = tuple[NDArray[np.bool_], NDArray[np.float32]]

ONLY_TEXTS = "this model finds objects by a text, not by points or boxes; give a text"

GRID_BYTES = 1 << 30  # memory for the masks that a mask generator makes at a time, float32 of the picture's size
GRID_BATCH = 64  # points at a time, the default of the packages


THRESHOLD = 0.5  # objects that a text names are returned from this score on, as in Meta's own package


class PredictionError(BhkError):
    """The model, or its package, cannot predict what was asked for."""


class Predictor(Protocol):
    """Predicts masks with one kind of model. It is made from the model and the package of the model's class.

    Attributes:
        outputs: what the model can return: a single mask, those of the multimask output, or either.
        reads_points: whether it takes points and boxes.
        reads_text: whether it takes prompts with a text.
    """

    outputs: tuple[Output, ...]
    reads_points: bool
    reads_text: bool

    @property
    def encoder(self) -> nn.Module:
        """The module that encodes the picture."""

    @property
    def decoder(self) -> nn.Module:
        """The module that decodes masks. It is called for every prompt and returns mask logits, predicted IoUs, and more."""

    @property
    def side(self) -> int:
        """Long side of the encoder's input in pixels; pictures are scaled to it."""

    def set_image(self, image: Rgb) -> None:
        """Encode a picture, uint8 (height, width, 3)."""

    def predict(self, prompt: Prompt, *, multimask: bool) -> Masks:
        """Return the masks of one object: with `multimask` all that the model proposes (usually three), else one.

        A model with only one of the two outputs returns that one.
        """

    def everything(self, image: Rgb, points_per_side: int) -> Masks:
        """Return the masks of everything that a grid of points finds, with the package's own mask generator."""


def predictor_for(model: nn.Module) -> Predictor:
    """Return the predictor for a model's class. It is for one thread; several may predict with one model.

    Raises:
        PredictionError: the class is not known.
        MissingPackageError: a package that the model's package needs is not installed.
    """
    if found := _PREPARED.get(getattr(model, PREPARED_AS, None)):
        return _make(found, private_twin(model), type(model).__module__.partition(".")[0])
    for kind in type(model).__mro__:
        package = kind.__module__.partition(".")[0]
        own = _PREDICTORS.get(f"{kind.__module__}.{kind.__name__}")  # of a package with the name and classes of another
        if found := own or _PREDICTORS.get(f"{package}.{kind.__name__}"):
            return _make(found, private_twin(model), package)
    name = f"{type(model).__module__}.{type(model).__name__}"
    raise PredictionError(f"bhk cannot predict masks with {name}; expected one of {', '.join(_PREDICTORS)}")


def _make(name: str, model: nn.Module, package: str) -> Predictor:
    module, _, kind = name.partition(".")
    make: Callable[[nn.Module, ModuleType], Predictor] = getattr(
        importlib.import_module(f"{__package__}.{module}"), kind
    )
    try:
        return make(model, importlib.import_module(package))
    except ImportError as error:
        needs = f"predicting masks with {package} needs a package that is missing ({error})"
        raise MissingPackageError(f"{needs}; run: pip install torchvision pillow") from error


# Package, or module, and class of a model -> module and class of its predictor.
_PREDICTORS = {
    "segment_anything.Sam": "meta.SamPredictor",
    "segment_anything_hq.Sam": "meta.SamPredictor",
    "mobile_sam.Sam": "meta.SamPredictor",
    "mobilesamv2.Sam": "meta.SamPredictor",
    "repvit_sam.Sam": "meta.SamPredictor",
    "edge_sam.Sam": "meta.EdgeSamPredictor",
    "tinysam.Sam": "meta.TinySamPredictor",
    "efficientvit.EfficientViTSam": "meta.EfficientVitSamPredictor",
    "robust_segment_anything.Sam": "meta.RobustSamPredictor",
    "segment_anything.modeling.sam_model.Sam": "medical.SamMed2dPredictor",
    "bhk.LiteMedSam": "medical.LiteMedSamPredictor",
    "sam2.SAM2Base": "sam2.Sam2Predictor",
    "sam2.SAM2HQBase": "sam2.Sam2Predictor",
    "efficient_track_anything.EfficientTAMBase": "sam2.Sam2Predictor",
    "transformers.SamModel": "hugging_face.HuggingFacePredictor",
    "transformers.SamHQModel": "hugging_face.HuggingFacePredictor",
    "transformers.Sam2Model": "hugging_face.HuggingFacePredictor",
    "transformers.EdgeTamModel": "hugging_face.HuggingFacePredictor",
    "sam3.Sam3Image": "original_sam3.OriginalSam3Predictor",
    "transformers.Sam3Model": "sam3.Sam3Predictor",
    "transformers.Sam3LiteTextModel": "sam3.Sam3Predictor",
    "transformers.Sam3VideoModel": "sam3.Sam3VideoPredictor",
    "transformers.Sam3TrackerModel": "hugging_face.HuggingFacePredictor",
    "efficient_sam.EfficientSam": "efficient_sam.EfficientSamPredictor",
}

# Variant whose authors prepare pictures in their own way -> module and class of its predictor.
_PREPARED: dict[object, str] = {"medsam": "medical.MedSamPredictor", "ft_sam": "medical.FtSamPredictor"}


class Asked(Protocol):
    """What is asked with points and boxes, or with texts; see `Predictor`."""

    reads_points: bool
    reads_text: bool


def check_prompts(predictor: Asked, *, texts: bool) -> None:
    """Check that a predictor or a tracker takes texts, or else points and boxes.

    Raises:
        PredictionError: it does not.
    """
    if texts and not predictor.reads_text:
        raise PredictionError("this model takes no texts, only SAM 3 does; give points or boxes")
    if not texts and not predictor.reads_points:
        raise PredictionError(ONLY_TEXTS)


def takes(predictor: Predictor, prompt: Prompt) -> bool:
    """Return whether a model takes such a prompt: those of MedSAM take a box alone."""
    is_box = prompt.box is not None and not (prompt.points or prompt.not_points)
    return is_box or not getattr(predictor, "only_boxes", False)


def grid_batch(image: Rgb) -> int:
    """Return how many points of a grid a mask generator can process at a time within `GRID_BYTES`."""
    height, width, _ = image.shape
    mask_bytes: int = 4 * height * width
    return max(1, min(GRID_BATCH, GRID_BYTES // (3 * mask_bytes)))  # three masks a point


def check_proportions(image: Rgb, side: int) -> None:
    """Check that a picture keeps at least one pixel on its short side when its long side is scaled to `side` pixels.

    Raises:
        PredictionError: the short side would vanish.
    """
    height, width, _ = image.shape
    if 2 * side * min(height, width) < max(height, width):
        raise PredictionError(
            f"the picture of {width} x {height} pixels is too narrow: scaling its long side to {side} leaves less than a "
            "pixel; cut it into pieces"
        )


def to_masks(masks: Tensor, scores: Tensor) -> Masks:
    """Return bool masks (n, height, width) and scores (n,) as numpy arrays."""
    return masks.cpu().numpy(), scores.detach().float().cpu().numpy()


def from_records(records: list[dict[str, Any]], image: Rgb) -> Masks:
    """Return the records of a mask generator as masks and scores, the best mask first."""
    records = sorted(records, key=lambda record: -record["predicted_iou"])
    masks = np.zeros((len(records), *image.shape[:2]), dtype=bool)
    for mask, record in zip(masks, records, strict=True):
        mask[:] = record["segmentation"]
    return masks, np.array([record["predicted_iou"] for record in records], dtype=np.float32)
