"""Every way in which a .bhk file and a model can disagree. Whatever is raised, the model is as it was."""

from __future__ import annotations

from bhk.base.errors import BhkError


class LoadError(BhkError):
    """A .bhk file could not be loaded into a model."""


class LoadOptionError(LoadError):
    """A mode, a kind of computation, a dtype or a device that there is not."""


class MismatchError(LoadError):
    """The tensors of the file are not those of the model.

    Attributes:
        missing: names of tensors of the model that the file lacks.
        unexpected: names of tensors of the file that the model lacks.
        differing: names of tensors whose shape or kind of number differs.
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
    """A tensor on the meta device is not in the file: nothing can give it values."""


class OutOfMemoryError(LoadError):
    """The device has no room for the model."""
