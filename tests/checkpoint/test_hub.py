from __future__ import annotations

import io
import json

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch
from hub.fake_hub import FakeHub

from bhk.checkpoint import AmbiguousCheckpointError, CorruptCheckpointError, NotACheckpointError, read
from bhk.checkpoint.companions import COMPANIONS
from bhk.checkpoint.terms import CARD, LICENSES, terms_beside, terms_of
from bhk.checkpoint.tokenizer import TOKENIZER
from bhk.hub.address import parse_address
from bhk.hub.download import fetch_file
from bhk.hub.errors import HubError


def _served(hub: FakeHub) -> list[str]:
    """Return the names of the requested files, each once."""
    return list(dict.fromkeys(request.path.split("/")[-1] for request in hub.requests if request.stage == "resolve"))


def _pth(**tensors: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _safe(**tensors: torch.Tensor) -> bytes:
    return safetensors.torch.save(tensors)


@pytest.mark.parametrize("source", ["facebook/sam", "hf://facebook/sam", "hf://facebook/sam@v2"])
def test_only_the_weights_are_downloaded(hub: FakeHub, source: str) -> None:
    files = {
        "README.md": b"#",
        "pytorch_model.bin": _pth(a=torch.ones(1)),
        "model.safetensors": _safe(a=torch.zeros(1)),
        "onnx/model.bin": b"",
    }
    hub.add("facebook/sam", files)
    hub.add("facebook/sam", {}, revision="v2")
    checkpoint = read(source)
    assert checkpoint.tensors["a"] == 0
    assert checkpoint.source.name == source
    assert checkpoint.source.size == len(files["model.safetensors"])
    weights, *companions = _served(hub)
    assert weights == "model.safetensors"
    assert set(companions) <= {CARD, *LICENSES, *COMPANIONS, *TOKENIZER}


def test_shards_in_a_folder_of_the_repository(hub: FakeHub) -> None:
    weight_map = {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}
    weights = {
        "model.safetensors": b"",
        "large/model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        "large/m-00001-of-00002.safetensors": _safe(a=torch.ones(1)),
        "large/m-00002-of-00002.safetensors": _safe(b=torch.ones(1)),
    }
    hub.add("u/r", weights)
    checkpoint = read("hf://u/r/large")
    assert list(checkpoint.tensors) == ["a", "b"]
    assert len(checkpoint.source.files) == 2
    assert "model.safetensors" not in _served(hub)


def test_a_file_is_named_by_its_path_and_later_found_in_the_cache(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("u/r", {"b.pth": _pth(a=torch.ones(1)), "h.pth": _pth(a=torch.ones(2))})
    with pytest.raises(AmbiguousCheckpointError, match=r"hf://u/r holds several checkpoints: b\.pth, h\.pth"):
        read("u/r")
    assert read("hf://u/r/h.pth").tensors["a"].shape == (2,)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read("hf://u/r/h.pth").tensors["a"].shape == (2,)
    assert read("u/r").tensors["a"].shape == (2,)  # the only one in the cache


def test_a_private_repository_is_read_with_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("u/r", "u/s"):
        hub.add(name, {"sam.pth": _pth(a=torch.ones(1))}, private=True)
    assert list(read("u/r").tensors) == ["a"]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="hf://u/s does not exist or is private"):
        read("u/s")


@pytest.mark.parametrize("source", ["hf://u/gated", "hf://u/gated/sam.pth"])
def test_a_gated_repository(hub: FakeHub, source: str) -> None:
    hub.add("u/gated", {"sam.pth": b""}, gated="auto")
    with pytest.raises(HubError, match="hf://u/gated is gated; accept its terms"):
        read(source)


@pytest.mark.parametrize(
    ("source", "message"), [("hf://u/r@v9", "no revision 'v9'"), ("hf://u/r/sam.pth", r"no file 'sam\.pth'")]
)
def test_missing_files_of_a_repository(hub: FakeHub, source: str, message: str) -> None:
    hub.add("u/r", {})
    with pytest.raises(HubError, match=message):
        read(source)


def test_a_repository_without_weights(hub: FakeHub) -> None:
    hub.add("u/r", {"README.md": b""})
    with pytest.raises(NotACheckpointError, match="hf://u/r holds no checkpoint"):
        read("u/r")


def test_the_terms_of_a_repository_hold_for_its_folders(hub: FakeHub) -> None:
    card = b"---\nlicense: other\nextra_gated_prompt: Be fair.\n---\n"
    hub.add("u/r", {"README.md": card, "LICENSE": b"SAM License", "large/deep/sam.pth": _pth(a=torch.ones(1))})
    entries, faults = terms_beside(read("hf://u/r/large/deep/sam.pth"))
    assert faults == ()
    assert terms_of(entries).license == "SAM License"
    assert terms_of(entries).gate == {"extra_gated_prompt": "Be fair."}


@pytest.mark.parametrize("fetched", [(), (CARD,)])
def test_terms_that_cannot_be_fetched_are_said_to_be_missing(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, fetched: tuple[str, ...]
) -> None:
    files = {CARD: b"---\nlicense: other\n---\n", "LICENSE": b"SAM License", "sam.pth": _pth(a=torch.ones(1))}
    hub.add("u/r", files)
    for name in ("sam.pth", *fetched):
        fetch_file(parse_address("u/r"), name)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    entries, (fault,) = terms_beside(read("hf://u/r/sam.pth"))
    assert terms_of(entries).card == ({"license": "other"} if fetched else {})
    missed = "LICENSE" if fetched else CARD
    assert f"hf://u/r/sam.pth may be missing in the .bhk file, because {missed} could not be fetched" in fault


def test_a_repository_without_terms_is_not_said_to_lack_them(hub: FakeHub) -> None:
    hub.add("u/r", {"sam.pth": _pth(a=torch.ones(1))})
    assert terms_beside(read("hf://u/r/sam.pth")) == ({}, ())


def test_a_hostile_index_downloads_nothing_more(hub: FakeHub) -> None:
    index = json.dumps({"weight_map": {"a": "../../x.bin"}}).encode()
    hub.add("u/r", {"model.safetensors.index.json": index})
    with pytest.raises(CorruptCheckpointError, match="file in its folder"):
        read("u/r")
    assert _served(hub) == ["model.safetensors.index.json"]


@pytest.mark.parametrize("source", ["u/r", "hf://u/r/sam.pth"])
def test_offline_and_not_in_the_cache(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot reach the Hub for hf://u/r, and it is not in the cache") as caught:
        read(source)
    assert "\n" not in str(caught.value)
