"""`make demo`: convert a small trained SAM, check it, segment a picture before and after, and write a report.

The commands are those a user would type. The model is `segment_anything`'s at 128 pixels, trained from scratch on procedural
scenes by `tools/train_demo_sam.py`; it never saw the pictures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from bhk.base.files import replace_file

_FOLDER = Path(__file__).parents[1] / "examples" / "demo"
CHECKPOINT = _FOLDER / "demo_sam.safetensors"  # float16
PICTURES = _FOLDER / "pictures"
OUT = Path("demo_out")
AGAINST = ("--against", "demo_sam.pth", "--images", "pictures")
PROMPTS = ("--box", "0,95,266,257", "--box", "295,0,384,138", "--box", "164,231,313,359")


def write_checkpoint(path: Path, *, force: bool = False) -> Path:
    """Write the demo model as published SAMs are: a float32 .pth file.

    Raises:
        WriteError: `path` exists and `force` is false, or it cannot be written.
    """
    with replace_file(path, force=force) as file:
        torch.save({name: tensor.float() for name, tensor in load_file(CHECKPOINT).items()}, file)
    return path


def run(*arguments: str) -> None:
    """Run a bhk command and show it as typed."""
    print(f"\n$ bhk {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "bhk", *arguments], cwd=OUT, check=True)


def main() -> None:
    OUT.mkdir(exist_ok=True)
    write_checkpoint(OUT / "demo_sam.pth", force=True)
    shutil.copytree(PICTURES, OUT / "pictures", dirs_exist_ok=True)
    run("convert", "demo_sam.pth", "--force")
    run("inspect", "demo_sam.bhk", "--by", "role")
    run("verify", "demo_sam.bhk")
    run("eval", "demo_sam.bhk", *AGAINST, "--points", "8", "--boxes", "4", "--no-control")
    for model, picture in (("demo_sam.pth", "original.png"), ("demo_sam.bhk", "overlay.png")):
        run("segment", model, "pictures/kites.jpg", *PROMPTS, "--out", picture, "--stats", "--force")
    run("report", "demo_sam.bhk", *AGAINST, "-o", "report.html", "--force")
    print(f"\nSee {OUT / 'overlay.png'} and, in a browser, {OUT / 'report.html'}.")


if __name__ == "__main__":
    main()
