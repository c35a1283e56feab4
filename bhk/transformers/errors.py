"""Errors of loading and saving .bhk files with transformers, in addition to those of `bhk.nn`."""

from __future__ import annotations

from bhk.base.errors import BhkError


class TransformersError(BhkError):
    """transformers cannot load or save a .bhk file."""


class UnsupportedTransformersError(TransformersError):
    """transformers is not installed, or bhk does not work with its version."""


class RepositoryError(TransformersError):
    """The config.json of a repository does not describe its weights correctly."""


class OffloadError(TransformersError):
    """Part of a model would be offloaded to the disk, which transformers supports for safetensors only."""


class TyingError(TransformersError):
    """Tensors that should be tied are not, because transformers loaded models in several threads at once."""


class SaveError(TransformersError):
    """A model cannot be saved as a .bhk file; nothing was written."""
