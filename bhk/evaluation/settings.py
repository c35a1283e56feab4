"""Settings of an evaluation: everything its results depend on apart from the models, the pictures and the annotations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from bhk.base.errors import OptionError
from bhk.base.texts import choices
from bhk.nn.hyperlinear import Compute
from bhk.nn.plan import Mode
from bhk.nn.precision import floating_dtype
from bhk.pictures.prompts import PromptError, make_prompts
from bhk.sam.attention.fuse import Attention

if TYPE_CHECKING:
    from bhk.nn.device import Device
    from bhk.nn.precision import Dtype
else:  # the names that results documents hold; `__post_init__` turns torch's objects into them
    Device = Dtype = str

ObjectPrompt = Literal["box", "point", "text"]
MaskOutput = Literal["single", "multi"]
PROMPTS: tuple[ObjectPrompt, ...] = get_args(ObjectPrompt)


class SettingsError(OptionError):
    """A setting of an evaluation is out of range."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings that all evaluations have.

    Attributes:
        seed: for everything drawn at random: pictures, prompts and the bootstrap.
        limit: use at most this many pictures, drawn at random; None for all.
        device: the device of both models, a name or a `torch.device`; kept as a name.
        dtype: the data type of both models' weights, a name or a `torch.dtype`; kept as a name.
        mode, compute: how the compressed model is loaded; see `bhk.load`.
        attention: attention of both models; see `bhk.load`.
        config: the configuration of all models; see `bhk.load`.

    Raises:
        LoadOptionError: torch has no such floating-point dtype.
        SettingsError: another setting is unknown or out of range.
    """

    seed: int = 0
    limit: int | None = None
    device: Device = "cpu"
    dtype: Dtype = "float32"
    mode: Mode = "auto"
    compute: Compute = "exact"
    attention: Attention = "fused"
    config: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))
        object.__setattr__(self, "dtype", str(floating_dtype(self.dtype)).removeprefix("torch."))
        if self.seed < 0:
            raise SettingsError(f"the seed is {self.seed}; expected 0 or more")
        if self.limit is not None and self.limit < 1:
            raise SettingsError(f"cannot use {self.limit} pictures; the limit must be 1 or more")
        check_choice("mode", self.mode, get_args(Mode))
        check_choice("compute", self.compute, get_args(Compute))
        check_choice("attention", self.attention, get_args(Attention))


@dataclass(frozen=True, kw_only=True)
class FidelitySettings(EvaluationSettings):
    """Settings of `bhk.fidelity`.

    >>> import bhk
    >>> bhk.FidelitySettings(points=8, boxes=4, limit=100).dtype
    'float32'

    Attributes:
        points, boxes: how many prompts of each kind to ask about each picture, or about the first frame of a clip.
        texts: what to find in each picture instead, with SAM 3, such as ("a cup", "a spoon"); `points` and `boxes` are then 0.
        follow: the pictures are the frames of a clip, in which each prompt's object is followed. `limit` then takes the first.
        control: also compare the original with itself in bfloat16, to see how much of the change is ordinary rounding.
            Slow on processors without bfloat16 instructions.

    Raises:
        LoadOptionError: torch has no such floating-point dtype.
        SettingsError: there are no prompts, a text is empty, texts are asked for in a clip, or a setting is out of range.
    """

    points: int = 32
    boxes: int = 16
    texts: tuple[str, ...] = ()
    control: bool = True
    follow: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.texts:
            self._take_texts()
        elif self.points < 0 or self.boxes < 0 or not self.points + self.boxes:
            raise SettingsError(
                f"{self.points} points and {self.boxes} boxes per picture; expected at least one prompt"
            )

    def _take_texts(self) -> None:
        if self.follow:
            raise SettingsError("texts find objects in pictures; in a clip, give points or boxes")
        try:
            prompts = make_prompts(texts=self.texts)
        except PromptError as error:
            raise SettingsError(str(error)) from None
        object.__setattr__(self, "texts", tuple(dict.fromkeys(prompt.text for prompt in prompts)))
        for name in ("points", "boxes"):
            object.__setattr__(self, name, 0)


@dataclass(frozen=True, kw_only=True)
class AccuracySettings(EvaluationSettings):
    """Settings of `bhk.accuracy`.

    >>> import bhk
    >>> bhk.AccuracySettings(prompts=("point",), output="multi", limit=100).prompts
    ('point',)

    Attributes:
        prompts: how to ask for annotated objects: for each by its "box" or by its innermost "point", or with SAM 3 for all of
            a category by its name, "text".
        output: which mask counts: the "single" mask, or of the "multi"-mask output the one that the model scores best. All
            masks count that a text finds.

    Raises:
        LoadOptionError: torch has no such floating-point dtype.
        SettingsError: a setting is unknown or out of range.
    """

    prompts: tuple[ObjectPrompt, ...] = ("box", "point")
    output: MaskOutput = "single"

    def __post_init__(self) -> None:
        super().__post_init__()
        for prompt in self.prompts:
            check_choice("prompt", prompt, PROMPTS)
        check_choice("output", self.output, get_args(MaskOutput))
        object.__setattr__(self, "prompts", tuple(prompt for prompt in PROMPTS if prompt in self.prompts))


def check_choice(name: str, value: str, known: Collection[str]) -> None:
    """Check that `value` is one of the `known`.

    Raises:
        SettingsError: it is not.
    """
    if value not in known:
        raise SettingsError(f"unknown {name} {value!r}; choose {choices(known)}")
