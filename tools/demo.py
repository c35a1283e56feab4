"""`make demo`: a really trained SAM to a .bhk file, checked, asked for masks before and after, and reported on.

The commands are those a user would type; the model and the pictures come with bhk (`bhk.sam.demo`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bhk.sam.demo import PICTURES, write_checkpoint

OUT = Path("demo_out")
AGAINST = ("--against", "demo_sam.pth", "--images", "pictures")
PROMPTS = ("--box", "0,95,266,257", "--box", "295,0,384,138", "--box", "164,231,313,359")


def run(*arguments: str) -> None:
    """Run a bhk command and show it as typed."""
    print(f"\n$ bhk {' '.join(arguments)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("bhk"), *arguments], cwd=OUT, check=True)


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
