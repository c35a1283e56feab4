from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import bhk
from bhk.nn import HyperEmbedding
from bhk.nn.embedding import MIN_ROWS


class _Text(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.tokens = nn.Embedding(MIN_ROWS, 32, **options)
        self.positions = nn.Embedding(MIN_ROWS - 1, 32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.tokens(tokens) + self.positions.weight[: tokens.shape[-1]]


TOKENS = torch.tensor([[3, MIN_ROWS - 1, 3], [0, 7, 1]])


@pytest.fixture
def pair(write, randomise) -> tuple[_Text, _Text]:
    """A model on codes, and one with the decoded tables."""
    path = write(randomise(_Text()))
    held, dense = _Text(), _Text()
    assert bhk.load_into(held, path).replaced == 1
    bhk.load_into(dense, path, mode="dense")
    return held, dense


def test_large_tables_are_held_as_codes_and_give_the_decoded_rows(pair: tuple[_Text, _Text]) -> None:
    held, dense = pair
    assert isinstance(held.tokens, HyperEmbedding)
    assert type(held.positions) is nn.Embedding
    assert torch.equal(held(TOKENS), dense(TOKENS))
    assert torch.equal(held.tokens.weight, dense.tokens.weight)
    assert torch.equal(held.tokens.to_embedding()(TOKENS), dense.tokens(TOKENS))
    assert held.tokens.bits_per_weight < 10
    assert repr(held.tokens).startswith(f"HyperEmbedding({MIN_ROWS}, 32, bits_per_weight=")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_have_the_dtype_of_the_layer(pair: tuple[_Text, _Text], dtype: torch.dtype) -> None:
    held, dense = (model.tokens.to(dtype) for model in pair)
    assert torch.equal(held(TOKENS), dense(TOKENS))
    assert held(TOKENS).dtype == dtype
    assert held.codes.dtype == torch.int8


def test_states_copies_and_pickles_are_equal(pair: tuple[_Text, _Text]) -> None:
    held = pair[0].tokens
    fresh = HyperEmbedding(MIN_ROWS, 32)
    fresh.load_state_dict(held.state_dict())
    stored = io.BytesIO()
    torch.save(held, stored)
    stored.seek(0)
    copies = fresh, copy.deepcopy(held), pickle.loads(pickle.dumps(held)), torch.load(stored, weights_only=False)
    assert all(torch.equal(other(TOKENS), held(TOKENS)) for other in copies)
    assert not list(held.parameters())


def test_tables_that_change_when_they_are_read_stay_dense(write, randomise) -> None:
    model = _Text(max_norm=1.0)
    assert bhk.load_into(model, write(randomise(_Text()))).replaced == 0


def test_rows_that_do_not_exist_are_refused(pair: tuple[_Text, _Text]) -> None:
    with pytest.raises(IndexError):
        pair[0].tokens(torch.tensor([MIN_ROWS]))


def test_a_dense_table_is_refused_with_the_way_to_go() -> None:
    with pytest.raises(
        bhk.errors.BhkError, match=r"holds codes, not a table; put torch\.nn\.Embedding\.from_pretrained"
    ):
        HyperEmbedding.from_pretrained(torch.zeros(5, 3), freeze=True)
