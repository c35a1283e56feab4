"""The commands whose operations fail, and the folders that they work in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from hub.fake_hub import FakeHub
from pictures import clips
from PIL import Image
from sam import models

import bhk
from bhk.pictures.scenes import make_scene

OLD = b"what was there before, and is longer than a few bytes\n"
CACHE = ".cache"  # of huggingface_hub; what it leaves there is its own
SCRATCH = ".tmp"  # for temporary files


@dataclass(frozen=True)
class Case:
    """A command.

    Attributes:
        name: for tables.
        arguments: of `bhk`.
        inputs: which files of the workshop it needs.
        old: names of files that are there before and hold `OLD`.
        keeps: folders of intermediate results, which may hold some of them after a fault.
        piecewise: whether its files take their places one by one, as the pictures of a clip and a plot beside results do.
        parted: whether a kill can part its files, because they take their places right after each other.
        published: the input that is model.bhk of user/there on the Hub.
        changing: the file among its inputs that may change while the command runs.
    """

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    old: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    piecewise: bool = False
    parted: bool = False
    published: str = ""
    changing: str = ""

    @property
    def resumes(self) -> bool:
        """Whether the command goes on where it was disturbed, when it runs again."""
        return bool(self.keeps) or "--out-dir" in self.arguments


_EVAL = ("eval", "sam.bhk", "--against", "sam.pth", "--images", "pictures", "--points", "2", "--boxes", "1")
_EVAL = (*_EVAL, "--workers", "1", "--no-control")
_MODEL = ("sam.bhk", "sam.pth", "pictures")
_CALIBRATE = ("convert", "sam.pth", "-o", "out.bhk", "--calibrate", "noise", "--limit", "2")
_SEGMENT = ("segment", "sam.bhk", "pictures/0.png", "--point", "40,30")
_SHARDS = ("a-00001-of-00003.safetensors", "a-00002-of-00003.safetensors", "a-00003-of-00003.safetensors")
_FOLLOW = ("segment", "video.bhk", "clip", "--box", "20,30,60,60")

CASES = (
    Case("convert", ("convert", "a.pth", "-o", "out.bhk"), ("a.pth",)),
    Case("convert --force", ("convert", "a.pth", "-o", "out.bhk", "--force", "--json"), ("a.pth",), ("out.bhk",)),
    Case("convert .safetensors", ("convert", "a.safetensors", "-o", "out.bhk"), ("a.safetensors",)),
    Case("convert shards", ("convert", "shards", "-o", "out.bhk"), ("shards",)),
    Case("convert .zip", ("convert", "a.zip", "-o", "out.bhk"), ("a.zip",)),
    Case("convert --ratio", ("convert", "a.pth", "-o", "out.bhk", "--ratio", "9"), ("a.pth",)),
    Case(
        "convert --out-dir",
        ("convert", "a.pth", "shards", "--out-dir", "many", "--quiet"),
        ("a.pth", "shards"),
        piecewise=True,
    ),
    Case("inspect", ("inspect", "a.bhk"), ("a.bhk",)),
    Case("inspect hf://", ("inspect", "hf://user/there"), (), published="a.bhk"),
    Case("verify", ("verify", "a.bhk", "--against", "a.pth"), ("a.bhk", "a.pth")),
    Case("diff", ("diff", "a.pth", "a.bhk"), ("a.bhk", "a.pth")),
    Case("diff --json", ("diff", "a.pth", "a.bhk", "--json"), ("a.bhk", "a.pth")),
    Case("export .pth", ("export", "a.bhk", "-o", "out.pth"), ("a.bhk",)),
    Case("export .pth --force", ("export", "a.bhk", "-o", "out.pth", "--force"), ("a.bhk",), ("out.pth",)),
    Case("export .safetensors", ("export", "a.bhk", "-o", "out.safetensors"), ("a.bhk",)),
    Case("export .bin", ("export", "a.bhk", "-o", "out.bin"), ("a.bhk",)),
    Case("export --format onnx", ("export", "sam.bhk", "-o", "onnx", "--format", "onnx"), ("sam.bhk",), parted=True),
    Case(
        "export shards",
        ("export", "a.bhk", "-o", "a.safetensors", "--shard-size", "10KB", "--force"),
        ("a.bhk",),
        ("a.safetensors.index.json", *_SHARDS),
        parted=True,  # the old index is none; a true one names shards that keep their places
    ),
    Case(
        "compare",
        ("compare", "a.pth", "--presets", "small,30", "-o", "out.json", "--plot", "out.svg", "--force"),
        ("a.pth",),
        ("out.svg", "out.json"),
        piecewise=True,
    ),
    Case(
        "report",
        ("report", "a.bhk", "--against", "a.pth", "-o", "out.html", "--figures", "figures", "--force"),
        ("a.bhk", "a.pth"),
        ("out.html", "figures/layer_map.png"),
        parted=True,
    ),
    Case("push -o", ("push", "a.bhk", "user/new", "--license", "mit", "-o", "out"), ("a.bhk",), parted=True),
    Case("push", ("push", "a.bhk", "user/new", "--license", "mit"), ("a.bhk",)),
    Case("push, private", ("push", "a.bhk", "user/new", "--private", "--json"), ("a.bhk",)),
    Case("pull", ("pull", "user/there", "-o", "out.bhk", "--force"), (), ("out.bhk",), published="a.bhk"),
    Case("models", ("models",), ()),
    Case("segment -o", (*_SEGMENT, "-o", "out.png", "--force"), _MODEL, ("out.png",)),
    Case("segment --json", (*_SEGMENT, "--json"), _MODEL),
    Case("segment a clip", (*_FOLLOW, "-o", "out"), ("video.bhk", "clip"), piecewise=True),
    Case("segment a clip to .mp4", (*_FOLLOW, "-o", "out.mp4"), ("video.bhk", "clip")),
    Case("eval", (*_EVAL, "-o", "out.json", "--work-dir", "work"), _MODEL, keeps=("work",)),
    Case("eval to .csv", (*_EVAL, "-o", "out.csv", "--force"), _MODEL, ("out.csv",)),
    Case("eval to .tex", (*_EVAL, "-o", "out.tex"), _MODEL),
    Case("convert --calibrate", (*_CALIBRATE, "--work-dir", "work"), ("sam.pth",), keeps=("work",)),
    Case("convert --calibrate, temporary", _CALIBRATE, ("sam.pth",)),
)


def tensors(seed: int = 0, side: int = 48, blocks: int = 3) -> dict[str, torch.Tensor]:
    """Return some coded tensors (side, side + 2), and some exact ones."""
    generator = torch.Generator().manual_seed(seed)
    weights = {f"blocks.{n}.weight": torch.randn(side, side + 2, generator=generator) * 0.05 for n in range(blocks)}
    return {**weights, "blocks.0.bias": torch.randn(side, generator=generator), "steps": torch.tensor(7)}


class Workshop:
    """Makes the inputs of all cases once, and a folder for each run of a command.

    Args:
        folder: where everything lies; it may be new.

    Attributes:
        hub: where commands push to and pull from.
    """

    def __init__(self, folder: Path) -> None:
        self._inputs, self.place = folder / "inputs", folder / "run"
        self.output = folder / "output"
        for path in (self._inputs, self.output / "second"):
            path.mkdir(parents=True)
        self.hub = FakeHub(_made(folder / "hub"))
        self._made: set[str] = set()

    def make(self, case: Case) -> None:
        """Make the inputs of a case, unless they are there."""
        for name in case.inputs:
            self.input(name)
        if case.published:
            self.hub.add("user/there", {"model.bhk": self.input(case.published)})

    def input(self, name: str) -> Path:
        """Return an input, which is made if it is not there."""
        if name not in self._made:
            _MAKERS[name](self, self._inputs / name)
            self._made.add(name)
        return self._inputs / name

    def folder(self, case: Case) -> Path:
        """Return a folder for a run: with links to the inputs, and with old files."""
        shutil.rmtree(self.place, ignore_errors=True)
        for path in (self.place, self.place / CACHE, self.place / SCRATCH):
            path.mkdir()
        for name in case.inputs:
            source, target = self._inputs / name, self.place / name
            if source.is_dir():
                shutil.copytree(source, target, copy_function=os.link)
            else:
                os.link(source, target)
        if case.changing:
            (self.place / case.changing).unlink()
            shutil.copy2(self._inputs / case.changing, self.place / case.changing)
        for name in case.old:
            (self.place / name).parent.mkdir(exist_ok=True)
            (self.place / name).write_bytes(OLD)
        self.hub.repositories.pop("user/new", None)
        return self.place

    def environment(self) -> Mapping[str, str]:
        """Return the environment of a command."""
        places = {"HF_HOME": CACHE, "HF_HUB_CACHE": f"{CACHE}/hub", "XDG_CACHE_HOME": CACHE, "TMPDIR": SCRATCH}
        absolute = {name: str(self.place / place) for name, place in places.items()}
        return self.hub.environment | absolute

    def close(self) -> None:
        """Stop the Hub."""
        self.hub.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _convert(source: str) -> Callable[[Workshop, Path], None]:
    return lambda shop, path: _quiet(bhk.convert(shop.input(source), path))


def _quiet(_: object) -> None:
    pass


def _shards(shop: Workshop, path: Path) -> None:
    path.mkdir()
    bhk.export(shop.input("a.bhk"), path / "model.safetensors", shard_bytes=10_000)


def _zip(shop: Workshop, path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(shop.input("a.pth"), "a.pth")


def _pictures(_: Workshop, path: Path) -> None:
    path.mkdir()
    for number in range(2):
        Image.fromarray(make_scene((1 << 40) + number).picture).save(path / f"{number}.png")


def _video(shop: Workshop, path: Path) -> None:
    source = path.with_name("video")
    models.small_hf_sam2_video().save_pretrained(source)
    bhk.convert(source, path)


def _save(seed: int, side: int, blocks: int) -> Callable[[Workshop, Path], None]:
    return lambda _, path: torch.save({"model": tensors(seed, side, blocks)}, path)


_MAKERS: Mapping[str, Callable[[Workshop, Path], object]] = {
    "a.pth": _save(0, 48, 3),
    "a.bhk": _convert("a.pth"),
    "big.pth": _save(1, 600, 12),
    "big.bhk": _convert("big.pth"),
    "big.safetensors": lambda shop, path: bhk.export(shop.input("big.bhk"), path),
    "other.pth": _save(2, 600, 12),
    "other.bhk": _convert("other.pth"),
    "a.safetensors": lambda shop, path: bhk.export(shop.input("a.bhk"), path),
    "a.zip": _zip,
    "shards": _shards,
    "sam.pth": lambda _, path: torch.save(models.small_sam().state_dict(), path),
    "sam.bhk": _convert("sam.pth"),
    "pictures": _pictures,
    "clip": lambda _, path: clips.write_folder(path, 3),
    "video.bhk": _video,
}
