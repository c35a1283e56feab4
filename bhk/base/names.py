"""File names and suffixes."""

from __future__ import annotations

BHK_SUFFIX = ".bhk"
MODEL_FILE = "model" + BHK_SUFFIX  # the file of weights in a repository or folder
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # files of weights in folders, the preferred ones first
CHECKPOINT_SUFFIXES = (*WEIGHT_SUFFIXES, ".ckpt", ".zip")  # suffixes that only checkpoints have
