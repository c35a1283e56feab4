"""Reading what torch.save wrote, without ever running what it says."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path

import torch

from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, UnsafePickleError, shown
from bhk.checkpoint.identify import Kind

_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)")


def load(path: Path, kind: Kind) -> object:
    """Return the object in a file of torch.save; its tensors are mapped from the file where the format allows it.

    Raises:
        UnsafePickleError: the pickle names anything beside plain containers and tensors.
        CorruptCheckpointError: the file is damaged.
    """
    try:
        if kind is Kind.TORCH_ZIP and _can_map(path):
            return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        with open(path, "rb") as file:
            return torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise _refusal(path, str(error)) from error
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    # A damaged pickle is a program gone wrong: it may raise anything, from KeyError to MemoryError.
    except Exception as error:
        reason = shown(str(error).partition("\n")[0] or type(error).__name__)
        raise CorruptCheckpointError(
            f"{path} is damaged or no PyTorch checkpoint ({reason}); get the file again"
        ) from error


def _can_map(path: Path) -> bool:
    """Return whether torch finds the data as they are: not packed, and not under a name it gives to safetensors."""
    if path.suffix == ".safetensors":
        return False
    with zipfile.ZipFile(path) as archive:
        return all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def _refusal(path: Path, message: str) -> UnsafePickleError | CorruptCheckpointError:
    refused = _REFUSED.search(message)
    if refused is None:
        reason = shown(message.rstrip().rpartition("\n\n")[0].rpartition("\n")[2] or "unknown instruction")
        return CorruptCheckpointError(f"{path} is no plain PyTorch checkpoint ({reason}); get the file again")
    return UnsafePickleError(
        f"{path} needs {shown(refused[1])} to load, which may run code, so bhk does not open it; if you trust the file,"
        " load it with the program that made it and save only the weights: torch.save(model.state_dict(), "
        '"weights.pth") or safetensors'
    )
