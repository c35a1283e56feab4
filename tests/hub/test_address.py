from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from bhk.hub.address import Address, address_of, looks_like_repository, parse_address
from bhk.hub.errors import HubError

_TOKEN = "hf_" + "Ab1" * 11


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("user/repo", Address("user/repo")),
        ("hf://user/repo", Address("user/repo")),
        ("hf://user/repo/", Address("user/repo")),
        ("hf://user/repo@v2", Address("user/repo", None, "v2")),
        ("hf://user/repo/weights/sam.pth", Address("user/repo", "weights/sam.pth")),
        ("hf://user/repo/sam.pth@refs/pr/1", Address("user/repo", "sam.pth", "refs/pr/1")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ("u/r", Address("u/r")),
        ("u/r/", Address("u/r")),
        ("u/r/tree/main", Address("u/r", None, "main")),
        ("u/r/tree/v2/a%20b", Address("u/r", "a b", "v2")),
        ("u/r/blob/main/model.bhk#L1", Address("u/r", "model.bhk", "main")),
        ("u/r/resolve/refs%2Fpr%2F1/a/model.bhk?download=true", Address("u/r", "a/model.bhk", "refs/pr/1")),
        ("u/r/blob/refs/pr/1/model.bhk", Address("u/r", "model.bhk", "refs/pr/1")),
    ],
)
def test_urls(page: str, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://mirror:80/hf")
    for endpoint in ("https://huggingface.co", "http://mirror:80/hf"):
        assert parse_address(f"{endpoint}/{page}") == address
        assert address_of(f"{endpoint}/{page}") == address


@pytest.mark.parametrize("page", ["", "u", "datasets/u/r", "u/r/model.bhk", "u/r/discussions/1"])
def test_other_pages_of_the_hub_are_refused(page: str) -> None:
    with pytest.raises(HubError, match=r"is not a Hub address; expected hf://user/repo"):
        address_of(f"https://huggingface.co/{page}")


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/u/r",
        "https://huggingface.co.example.com/u/r",
        f"https://user:{_TOKEN}@huggingface.co/u/r",
        "https://user:secret@example.com/u/r?X-Amz-Signature=secret",
    ],
)
def test_urls_of_other_sites_are_refused_without_their_secrets(text: str) -> None:
    with pytest.raises(HubError, match="download files from other sites first") as caught:
        address_of(text)
    assert _TOKEN not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["http://huggingface.co", "https://hf.co", "https://www.huggingface.co"])
def test_the_hub_has_several_hosts(host: str) -> None:
    assert address_of(f"{host}/u/r") == Address("u/r")


@pytest.mark.parametrize("text", ["hf://", "hf://user", "hf://user/repo@", "hf://a b/c", f"hf://{_TOKEN}@host"])
def test_malformed_addresses_are_refused_without_their_tokens(text: str) -> None:
    with pytest.raises(HubError, match=r"expected hf://user/repo") as caught:
        parse_address(text)
    assert _TOKEN not in str(caught.value)


def test_only_two_plain_names_look_like_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert looks_like_repository("facebook/sam-vit-base")
    others = ["sam", "folder/sam", "user/sam.pth", "user/sam.bhk", "../user", "/user", "a/b/c", "a/b c"]
    assert not any(map(looks_like_repository, others))


def test_addresses_and_local_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert address_of("user/repo") == Address("user/repo")
    assert address_of("hf://user/repo/a.bhk") == Address("user/repo", "a.bhk")
    assert address_of("sam.bhk") is None
    assert address_of(tmp_path / "sam") is None


def test_addresses_are_shown_without_their_revision() -> None:
    address = parse_address("hf://user/repo/a.bhk@v2")
    assert (str(address), address.name) == ("hf://user/repo/a.bhk", "repo")
    assert address.at("b.bhk") == Address("user/repo", "b.bhk", "v2")
