from __future__ import annotations

from pathlib import Path

from hub.fake_hub import FakeHub

from bhk.checkpoint.tokenizer import fetch_tokenizer, tokenizer_files
from bhk.hub.address import parse_address

FILES = {"tokenizer.json": b"{}", "model.safetensors": b"", "vocab.json": b"{}"}


def test_the_files_beside_the_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.bhk"
    assert tokenizer_files(weights, None) == ()
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    assert tokenizer_files(weights, "u/r") == (tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_the_files_in_the_cache_of_where_the_weights_came_from(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("u/r", FILES)
    weights = tmp_path / "model.bhk"
    assert tokenizer_files(weights, "u/r") == ()  # nothing is downloaded
    fetch_tokenizer(parse_address("u/r"))
    assert [path.name for path in tokenizer_files(weights, "hf://u/r")] == ["tokenizer.json", "vocab.json"]
    assert tokenizer_files(weights, "hf://") == ()
    assert tokenizer_files(weights, "sam3.pt") == ()
