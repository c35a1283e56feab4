"""What comes with bhk to try it on: a small SAM, really trained, and pictures that it never saw.

The model is `segment_anything`'s at 128 pixels, trained from scratch on procedural scenes by `tools/train_demo_sam.py`; the log
of that is beside it. It is kept as float16; `write_checkpoint` gives it as the float32 .pth file that published SAMs are.
"""

from __future__ import annotations

import os
from pathlib import Path

CHECKPOINT = Path(__file__).with_name("demo_sam.safetensors")
LOG = Path(__file__).with_name("training.csv")
PICTURES = Path(__file__).with_name("pictures")


def write_checkpoint(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the demo model as a float32 .pth file.

    Raises:
        WriteError: `path` exists, or cannot be written.
    """
    import torch
    from safetensors.torch import load_file

    from bhk.base.files import replace_file

    target = Path(path)
    with replace_file(target, force=force) as file:
        torch.save({name: tensor.float() for name, tensor in load_file(CHECKPOINT).items()}, file)
    return target
