"""Against a server on this machine that speaks the part of the Hub's protocol that downloads need."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import huggingface_hub.constants
import pytest
import safetensors.torch
import torch

from bhk.checkpoint import AmbiguousCheckpointError, CorruptCheckpointError, HubError, NotACheckpointError, read
from bhk.checkpoint.hub import Address, fetch_file, looks_like_repository, parse_address, redact

_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_TOKEN = "hf_" + "Ab1" * 11


class _Hub:
    """Repositories by name: files by path. What was downloaded is in `served`."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.served: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        kind, _, rest = unquote(path).lstrip("/").partition("/")
        if kind == "api":
            _, user, name, *rest_parts = rest.split("/")
            revision = rest_parts[1] if rest_parts else "main"
        else:
            user, name = kind, rest.split("/")[0]
            revision = rest.split("/")[2]
        repository = f"{user}/{name}"
        if name == "gated":
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if name == "broken":
            return 400, {"X-Error-Message": f"Bearer {_TOKEN} and {_TOKEN} are\nno good"}, b""
        if repository not in self.repositories:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", "v2", _COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        files = self.repositories[repository]
        if kind == "api":
            siblings = [{"rfilename": file} for file in files]
            return 200, {}, json.dumps({"id": repository, "sha": _COMMIT, "siblings": siblings}).encode()
        file = rest.split("/", 3)[3]
        if file not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": _COMMIT}, b""
        headers = {"X-Repo-Commit": _COMMIT, "ETag": f'"{hashlib.sha256(files[file]).hexdigest()}"'}
        self.served.append(file)
        return 200, headers, files[file]


@pytest.fixture
def hub(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Hub]:
    state = _Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = state.answer(self.path.partition("?")[0])
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value.replace("\n", " "))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(here / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _pth(**tensors: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _safe(**tensors: torch.Tensor) -> bytes:
    return safetensors.torch.save(tensors)


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


@pytest.mark.parametrize("text", ["hf://", "hf://user", "hf://user/repo@", "hf://a b/c", f"hf://{_TOKEN}@host"])
def test_malformed_addresses_are_refused_without_their_tokens(text: str) -> None:
    with pytest.raises(HubError, match=r"expected hf://user/repo") as caught:
        parse_address(text)
    assert _TOKEN not in str(caught.value)


def test_only_two_plain_names_look_like_a_repository(here: Path) -> None:
    (here / "folder").mkdir()
    assert looks_like_repository("facebook/sam-vit-base")
    assert not any(
        map(looks_like_repository, ["sam", "folder/sam", "user/sam.pth", "../user", "/user", "a/b/c", "a/b c"])
    )


def test_tokens_are_redacted() -> None:
    assert redact(f"Authorization: Bearer abc.def ({_TOKEN})") == "Authorization: Bearer hf_*** (hf_***)"


@pytest.mark.parametrize("source", ["facebook/sam", "hf://facebook/sam", "hf://facebook/sam@v2"])
def test_only_the_weights_are_downloaded(hub: _Hub, source: str) -> None:
    hub.repositories["facebook/sam"] = {
        "README.md": b"#",
        "pytorch_model.bin": _pth(a=torch.ones(1)),
        "model.safetensors": _safe(a=torch.zeros(1)),
        "onnx/model.bin": b"",
    }
    checkpoint = read(source)
    assert checkpoint.tensors["a"] == 0
    assert checkpoint.source.name == source
    assert checkpoint.source.size == len(hub.repositories["facebook/sam"]["model.safetensors"])
    assert set(hub.served) == {"model.safetensors"}


def test_shards_in_a_folder_of_the_repository(hub: _Hub) -> None:
    weight_map = {"a": "m-00001-of-00002.safetensors", "b": "m-00002-of-00002.safetensors"}
    hub.repositories["u/r"] = {
        "model.safetensors": b"",
        "large/model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode(),
        "large/m-00001-of-00002.safetensors": _safe(a=torch.ones(1)),
        "large/m-00002-of-00002.safetensors": _safe(b=torch.ones(1)),
    }
    checkpoint = read("hf://u/r/large")
    assert list(checkpoint.tensors) == ["a", "b"]
    assert len(checkpoint.source.files) == 2
    assert "model.safetensors" not in hub.served


def test_a_file_is_named_by_its_path_and_later_found_in_the_cache(hub: _Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["u/r"] = {"b.pth": _pth(a=torch.ones(1)), "h.pth": _pth(a=torch.ones(2))}
    with pytest.raises(AmbiguousCheckpointError, match=r"hf://u/r holds several checkpoints: b\.pth, h\.pth"):
        read("u/r")
    assert read("hf://u/r/h.pth").tensors["a"].shape == (2,)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert read("hf://u/r/h.pth").tensors["a"].shape == (2,)
    assert read("u/r").tensors["a"].shape == (2,)  # the only one in the cache


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no/such", "hf://no/such does not exist or is private.*hf auth login"),
        ("hf://u/gated/sam.pth", "hf://u/gated is gated; accept its terms at https://huggingface.co/u/gated"),
        ("hf://u/gated", "is gated"),
        ("hf://u/r@v9", "no revision 'v9'"),
        ("hf://u/r/sam.pth", r"no file 'sam\.pth'"),
        ("hf://u/broken", r"cannot get hf://u/broken.*Bearer hf_\*\*\* and hf_\*\*\* are"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(hub: _Hub, source: str, message: str) -> None:
    hub.repositories["u/r"] = {}
    with pytest.raises(HubError, match=message) as caught:
        read(source)
    assert "\n" not in str(caught.value)
    assert _TOKEN not in "".join(traceback.format_exception(caught.value))


def test_one_file_of_any_name(hub: _Hub) -> None:
    hub.repositories["u/r"] = {"a/model.bhk": b"codes", "model.safetensors": b""}
    assert fetch_file(Address("u/r"), "a/model.bhk").read_bytes() == b"codes"
    assert set(hub.served) == {"a/model.bhk"}
    with pytest.raises(HubError, match=r"hf://u/r has no file 'model\.bhk'"):
        fetch_file(Address("u/r"), "model.bhk")


def test_a_repository_without_weights(hub: _Hub) -> None:
    hub.repositories["u/r"] = {"README.md": b""}
    with pytest.raises(NotACheckpointError, match="hf://u/r holds no checkpoint"):
        read("u/r")


def test_a_hostile_index_downloads_nothing_more(hub: _Hub) -> None:
    index = json.dumps({"weight_map": {"a": "../../x.bin"}}).encode()
    hub.repositories["u/r"] = {"model.safetensors.index.json": index}
    with pytest.raises(CorruptCheckpointError, match="file in its folder"):
        read("u/r")
    assert set(hub.served) == {"model.safetensors.index.json"}


@pytest.mark.parametrize("source", ["u/r", "hf://u/r/sam.pth"])
def test_offline_and_not_in_the_cache(hub: _Hub, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="cannot reach the Hub for hf://u/r, and it is not in the cache") as caught:
        read(source)
    assert "\n" not in str(caught.value)
