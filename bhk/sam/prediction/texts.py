"""Turning texts into the tokens that SAM 3 reads, with the tokenizer beside its weights."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

from bhk.sam.prediction.predictor import PredictionError

_SPECIAL = 3  # tokens that every tokenizer has
_ADVICE = (
    "but a text prompt needs that of the model: copy tokenizer.json, or vocab.json and merges.txt, from the checkpoint's "
    "repository to the folder of the weights"
)


class MissingTokenizerError(PredictionError):
    """The files that turn a text into tokens are not beside the model's weights."""


class TextReader:
    """Makes tokens for the detector of a model.

    Args:
        model: what was loaded, which knows from where.
        detector: the `Sam3Model`.
        package: transformers.
    """

    def __init__(self, model: nn.Module, detector: Any, package: Any) -> None:
        self._place: str = model.config._name_or_path  # type: ignore[assignment, union-attr]
        self._detector, self._package = detector, package

    def tokens(self, text: str) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask` of a text, int64 (1, length).

        Raises:
            PredictionError: it has too many words.
            MissingTokenizerError: the tokenizer is not beside the model's weights.
        """
        most = self._detector.config.text_config.max_position_embeddings
        found = self.tokenizer(text, return_tensors="pt", padding="max_length", max_length=most)
        tokens = {name: found[name].to(self._detector.device) for name in ("input_ids", "attention_mask")}
        if tokens["input_ids"].shape[1] > most:
            raise PredictionError(f"the text takes {tokens['input_ids'].shape[1]} tokens, more than {most}; shorten it")
        return tokens

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The tokenizer beside the weights: in the folder or the repository that the model was loaded from."""
        place, size = self._place, self._detector.config.text_config.vocab_size
        if not place:
            raise MissingTokenizerError(f"this model was not loaded from a file, {_ADVICE}")
        try:
            tokenizer = self._package.CLIPTokenizer.from_pretrained(place)
        except Exception as error:  # a folder may hold anything, and raise anything
            reason = str(error).partition("\n")[0]
            raise MissingTokenizerError(f"the tokenizer in {place} cannot be read ({reason}), {_ADVICE}") from error
        if not _SPECIAL < len(tokenizer) <= size:  # without files, transformers makes one of special tokens only
            found = f"one of {len(tokenizer)} tokens" if len(tokenizer) > size else "no tokenizer"
            raise MissingTokenizerError(f"{place} holds {found}, {_ADVICE}")
        return tokenizer
