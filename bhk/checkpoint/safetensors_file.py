"""Reading .safetensors: tensors are views of the mapped file."""

from __future__ import annotations

from pathlib import Path

import safetensors
import torch

from bhk.checkpoint.errors import CorruptCheckpointError, UnreadableCheckpointError, shown
from bhk.checkpoint.strict_json import StrictJsonError, parse_object


def load(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of the file in the order of its header; no data are read yet.

    Raises:
        CorruptCheckpointError: the header is malformed, or names a tensor twice (which the library lets pass).
    """
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            names = _names(path)
            return {name: file.get_tensor(name) for name in names}
    except OSError as error:
        raise UnreadableCheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, StrictJsonError) as error:
        raise CorruptCheckpointError(
            f"{path} is a damaged safetensors file ({shown(error)}); get the file again"
        ) from error
    # A dtype that this PyTorch lacks surfaces as an attribute or a key it does not know.
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CorruptCheckpointError(f"{path} holds a tensor that PyTorch cannot represent ({shown(error)})") from error


def _names(path: Path) -> list[str]:
    """Return the tensor names in the order of the header, which safe_open has found to be sound but for repetitions."""
    with open(path, "rb") as file:
        header = parse_object(file.read(int.from_bytes(file.read(8), "little")))
    return [name for name in header if name != "__metadata__"]
