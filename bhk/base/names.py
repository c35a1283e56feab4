"""What files are called: the endings by which bhk knows its own files and checkpoints."""

from __future__ import annotations

BHK_SUFFIX = ".bhk"
MODEL_FILE = "model" + BHK_SUFFIX  # what a repository calls its one file
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # files of weights that are looked for in folders
CHECKPOINT_SUFFIXES = (*WEIGHT_SUFFIXES, ".ckpt", ".zip")  # endings that only a checkpoint has
