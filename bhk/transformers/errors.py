"""Every way in which transformers and a .bhk file can disagree, beyond those of `bhk.nn`."""

from __future__ import annotations

from bhk.base.errors import BhkError


class TransformersError(BhkError):
    """transformers cannot load or save a .bhk file."""


class UnsupportedTransformersError(TransformersError):
    """transformers is not installed, or of a version whose loading bhk cannot join."""


class RepositoryError(TransformersError):
    """The config.json of a repository does not say what its weights are."""


class OffloadError(TransformersError):
    """Part of a model is to lie on the disk, for which transformers needs safetensors."""


class TyingError(TransformersError):
    """Tensors of a model that are to be one are not: transformers loaded models in several threads at once."""


class SaveError(TransformersError):
    """A model cannot be written back as a .bhk file; nothing was changed."""
