from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.utils import close_session

from bhk.hub.address import Address, parse_address
from bhk.hub.download import cached_file, commit_of, fetch_file, list_files, local_file, with_bhk_file
from bhk.hub.errors import HubError, HubFileNotFoundError, HubUnreachableError
from hub.fake_hub import FakeHub

_CONTENT = bytes(range(256)) * 300
_SMALL = b'{"a": 1}'


def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def _count(hub: FakeHub, stage: str) -> int:
    return sum(request.stage == stage for request in hub.requests)


@pytest.mark.parametrize("name", ["a/model.bhk", "config.json"])
def test_one_file_of_any_name(hub: FakeHub, name: str) -> None:
    commit = hub.add("u/r", {"a/model.bhk": _CONTENT, "config.json": _SMALL})
    path = fetch_file(Address("u/r"), name)
    assert path.read_bytes() == hub.files("u/r")[name]
    assert commit_of(path, name) == commit
    assert all(request.path.endswith(name) for request in hub.requests if request.stage == "resolve")


def test_a_file_is_downloaded_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    for _ in range(2):
        fetch_file(Address("u/r"), "model.bhk")
    assert _count(hub, "blob") == 1
    _offline(monkeypatch)
    assert fetch_file(Address("u/r"), "model.bhk").read_bytes() == _CONTENT
    assert cached_file(Address("u/r"), "model.bhk").read_bytes() == _CONTENT


def test_progress_counts_bytes(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 20_000)
    hub.add("u/r", {"model.bhk": _CONTENT})
    told: list[tuple[int, int]] = []
    fetch_file(Address("u/r"), "model.bhk", lambda done, total: told.append((done, total)))
    assert told == [(done, 76_800) for done in (20_000, 40_000, 60_000, 76_800)]


@pytest.mark.parametrize(("name", "stage", "times"), [("model.bhk", "blob", 1), ("config.json", "resolve", 2)])
def test_a_damaged_download_is_not_kept(hub: FakeHub, name: str, stage: str, times: int) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT, "config.json": _SMALL})
    hub.inject(stage, corrupt=True, times=times)
    with pytest.raises(HubError, match=rf"hf://u/r/{name} was damaged in the download.*try again"):
        fetch_file(Address("u/r"), name)
    assert fetch_file(Address("u/r"), name).read_bytes() == hub.files("u/r")[name]


@pytest.mark.parametrize(
    ("stage", "fault", "kind", "message"),
    [
        ("resolve", {"status": 401}, HubError, r"does not accept the token.*\(401\)"),
        ("resolve", {"status": 403}, HubError, r"does not permit.*\(403"),
        ("resolve", {"status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}, HubFileNotFoundError, "has no file"),
        (
            "resolve",
            {"status": 429, "headers": {"Retry-After": "9"}},
            HubError,
            r"too many requests.* \(429\).*in 9 s",
        ),
        ("resolve", {"status": 500}, HubUnreachableError, r"trouble.*\(500"),
        ("resolve", {"cut_after": 5}, HubUnreachableError, "cannot reach the Hub"),
        ("blob", {"status": 403}, HubError, r"\(403"),
        ("blob", {"status": 404}, HubError, r"\(404"),
        (
            "blob",
            {"status": 429, "headers": {"Retry-After": "9"}},
            HubError,
            r"too many requests.* \(429\).*in 9 s",
        ),
        ("blob", {"status": 500}, HubUnreachableError, r"trouble.*\(500"),
        ("blob", {"cut_after": 30}, HubUnreachableError, "cannot reach the Hub"),
    ],
)
def test_lasting_faults_end_in_one_line_and_leave_nothing(
    hub: FakeHub, stage: str, fault: dict[str, int], kind: type[HubError], message: str
) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject(stage, times=-1, **fault)  # type: ignore[arg-type]
    with pytest.raises(kind, match=message) as caught:
        fetch_file(Address("u/r"), "model.bhk")
    assert "\n" not in str(caught.value)
    cache = Path(huggingface_hub.constants.HF_HUB_CACHE)
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size >= 1000]


@pytest.mark.parametrize("fault", [{"status": 429, "headers": {"Retry-After": "7"}}, {"cut_after": 50_000}])
def test_passing_faults_are_waited_for(hub: FakeHub, fault: dict[str, int]) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject("blob", **fault)  # type: ignore[arg-type]
    assert fetch_file(Address("u/r"), "model.bhk").read_bytes() == _CONTENT
    assert hub.waits == ([8.0] if "status" in fault else [1])


def test_a_file_that_changes_before_the_download(hub: FakeHub) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    other = _CONTENT[::-1]
    hub.inject("blob", action=lambda: hub.add("u/r", {"model.bhk": other}))
    assert fetch_file(Address("u/r"), "model.bhk").read_bytes() == _CONTENT
    assert fetch_file(Address("u/r"), "model.bhk").read_bytes() == other


@pytest.mark.parametrize(
    ("files", "address", "name"),
    [
        (("model.bhk", "b.bhk"), "u/r", "model.bhk"),
        (("b.bhk", "README.md"), "hf://u/r", "b.bhk"),
        (("b/c.bhk", "d/model.bhk"), "hf://u/r/d", "d/model.bhk"),
        (("b/c.bhk", "d/e.bhk"), "hf://u/r/b", "b/c.bhk"),
        (("b.bhk", "c.bhk"), "hf://u/r/c.bhk", "c.bhk"),
    ],
)
def test_which_file_an_address_stands_for(hub: FakeHub, files: tuple[str, ...], address: str, name: str) -> None:
    hub.add("u/r", {file: file.encode() for file in files})
    assert local_file(address).read_bytes() == name.encode()
    assert with_bhk_file(parse_address(address), lambda _, found: found if found == name else "") in (name, "")


@pytest.mark.parametrize(
    ("files", "address", "message"),
    [
        (("a.bhk", "b.bhk"), "u/r", r"hf://u/r holds several \.bhk files: a\.bhk, b\.bhk; name one"),
        (("sam.pth",), "u/r", r"hf://u/r holds no \.bhk file"),
        (("a.bhk",), "hf://u/r/b.bhk", r"has no file 'b\.bhk'"),
    ],
)
def test_an_address_that_stands_for_no_single_file(
    hub: FakeHub, files: tuple[str, ...], address: str, message: str
) -> None:
    hub.add("u/r", dict.fromkeys(files, b"1"))
    with pytest.raises(HubFileNotFoundError, match=message):
        local_file(address)


def test_paths_are_unchanged(tmp_path: Path) -> None:
    assert local_file(tmp_path / "a.bhk") == tmp_path / "a.bhk"
    assert local_file("no/such.bhk") == Path("no/such.bhk")


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["model.bhk", "config.json", "README.md"], "model.bhk"),
        (["vit_b.bhk", "config.json"], "vit_b.bhk"),
        (["model.bhk", "vit_b.bhk"], "model.bhk"),
        (["a.bhk", "b.bhk"], ""),
        (["model.bhk", "model.safetensors"], ""),  # `bhk convert` wrote the first beside the second, which is meant
        (["config.json"], ""),
    ],
)
def test_which_file_a_folder_stands_for(tmp_path: Path, files: list[str], name: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert local_file(tmp_path) == tmp_path / name


def test_without_a_network_the_cache_is_used(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("u/r", {"b.bhk": _CONTENT, "c.txt": b"c"})
    fetch_file(Address("u/r"), "b.bhk")
    _offline(monkeypatch)
    assert list_files(Address("u/r")) == ["b.bhk"]
    assert local_file("u/r").read_bytes() == _CONTENT
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/s"):
        local_file("u/s")
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/r, and it is not in the cache"):
        fetch_file(Address("u/r"), "c.txt")
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/s, and it is not in the cache"):
        list_files(Address("u/s"))


def test_no_network_at_all(hub: FakeHub) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    digest = hashlib.sha256(local_file("u/r").read_bytes()).hexdigest()
    hub.close()
    close_session()
    assert hashlib.sha256(local_file("u/r").read_bytes()).hexdigest() == digest
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/s"):
        local_file("u/s")
