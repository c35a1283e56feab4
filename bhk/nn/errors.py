"""Errors of layers on codes, and of loading a .bhk file into a model. After any of these, the model is unchanged."""

from __future__ import annotations

from bhk.base.errors import BhkError, OptionError


class HyperLinearError(BhkError):
    """A linear layer cannot be held as codes, or its codes cannot do what is asked for."""


class LoadError(BhkError):
    """A .bhk file could not be loaded into a model."""


class LoadOptionError(LoadError, OptionError):
    """A mode, a kind of computation, a dtype or a device does not exist or cannot be used."""


class MismatchError(LoadError):
    """The tensors of the file do not fit the model.

    Attributes:
        missing: names of the model's tensors that the file does not hold.
        unexpected: names of the file's tensors that the model does not have.
        differing: names of tensors whose shapes or kinds of number differ.
    """

    def __init__(
        self,
        message: str,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        differing: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.differing = missing, unexpected, differing


class NoDataError(LoadError):
    """A tensor of the model is on the meta device and not in the file, so it has no values."""


class DeviceMemoryError(BhkError):
    """A device does not have enough memory for the work."""


class ModelMemoryError(LoadError, DeviceMemoryError):
    """A device does not have enough memory for the model."""
