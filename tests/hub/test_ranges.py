from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.utils import close_session
from publishing.weights import weights

import bhk
from bhk.hub import ranges
from bhk.hub.address import Address
from bhk.hub.download import local_file
from bhk.hub.errors import HubError, HubFileNotFoundError, HubUnreachableError
from bhk.hub.ranges import RemoteFile
from hub.fake_hub import FakeHub
from hub.large_file import write_sam_h

_CONTENT = bytes(range(256)) * 300
_ADDRESS = Address("u/r", "model.bhk")


def _stages(hub: FakeHub) -> list[str]:
    return [request.stage for request in hub.requests]


def _remote(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, head: int = 1000) -> RemoteFile:
    """Return a file on the Hub whose first `head` bytes have been fetched."""
    monkeypatch.setattr(ranges, "HEAD_BYTES", head)
    hub.add("u/r", {"model.bhk": _CONTENT})
    return RemoteFile(_ADDRESS)


@pytest.mark.parametrize("head", [ranges.HEAD_BYTES, 20_000])
def test_the_header_of_a_large_file_takes_three_requests_and_70_kb(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: int
) -> None:
    monkeypatch.setattr(ranges, "HEAD_BYTES", head)
    header = write_sam_h(tmp_path / "sam_vit_h.bhk")
    hub.add("u/r", {"model.bhk": tmp_path / "sam_vit_h.bhk"})
    found = bhk.inspect("hf://u/r")
    assert len(found.rows) == 594
    assert found.header == header > 30_000
    assert found.file_bytes > 400_000_000
    assert len(hub.requests) == (2 if head > header else 3)
    assert sum(request.sent for request in hub.requests) <= 70_000


def test_one_layer_is_fetched_alone(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "HEAD_BYTES", 1000)
    (tmp_path / "sam.bhk").write_bytes(weights())
    commit = hub.add("u/r", {"model.bhk": weights()})
    with bhk.open(tmp_path / "sam.bhk") as local, bhk.open("u/r") as remote:
        before = len(hub.requests)
        assert remote.names == local.names
        layer = max(local.layers, key=lambda layer: layer.stored_bytes)
        assert torch.equal(remote.tensor(layer.name), local.tensor(layer.name))
        fetched = hub.requests[before:]
        assert [request.range for request in fetched] == [
            f"bytes={stream.offset}-{stream.offset + stream.stored - 1}" for stream in layer.streams
        ]
        assert remote.container.source.name == "hf://u/r/model.bhk"
        assert remote.container.source.commit == commit  # type: ignore[attr-defined]
        assert all(map(torch.equal, remote.state_dict(threads=2).values(), local.state_dict().values()))


def test_only_the_hub_gets_the_token(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    _remote(hub, monkeypatch).read(5000, 10)
    assert [(request.stage, request.authorization) for request in hub.requests] == [
        ("resolve", True),
        ("blob", False),
        ("blob", False),
    ]


@pytest.mark.parametrize("span", [(0, 0), (0, 64), (900, 100), (990, 20), (1000, 5), (76_000, 800), (0, 76_800)])
def test_any_range(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, span: tuple[int, int]) -> None:
    offset, length = span
    remote = _remote(hub, monkeypatch)
    assert remote.length == len(_CONTENT)
    assert remote.read(offset, length) == _CONTENT[offset : offset + length]


def test_a_small_file_in_git(hub: FakeHub) -> None:
    hub.add("u/r", {"small.bhkx": b"0123456789"})
    remote = RemoteFile(Address("u/r", "small.bhkx"))
    assert (remote.length, remote.read(2, 3)) == (10, b"234")
    assert _stages(hub) == ["resolve"]


def test_an_expired_url_is_renewed(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = _remote(hub, monkeypatch)
    hub.expire_urls()
    assert remote.read(5000, 10) == _CONTENT[5000:5010]
    assert _stages(hub) == ["resolve", "blob", "blob", "resolve", "blob"]


def test_a_repository_that_changes_is_read_as_it_was(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = _remote(hub, monkeypatch)
    commit = hub.commits("u/r")[0]
    hub.add("u/r", {"model.bhk": _CONTENT[::-1]})
    hub.expire_urls()
    assert remote.read(5000, 10) == _CONTENT[5000:5010]
    assert remote.commit == commit
    assert f"/resolve/{commit}/" in hub.requests[3].path


def test_bytes_of_another_version_are_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = _remote(hub, monkeypatch)
    hub.inject("blob", headers={"Content-Range": "bytes 5000-5009/99999"})
    with pytest.raises(HubError, match=r"hf://u/r/model\.bhk was changed in the meantime; open it again"):
        remote.read(5000, 10)


def test_a_missing_commit(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = _remote(hub, monkeypatch)
    hub.repositories["u/r"].commits.clear()
    hub.expire_urls()
    with pytest.raises(HubError, match="has no revision"):
        remote.read(5000, 10)


def test_a_server_without_ranges_serves_only_the_beginning(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytes(20_000_000)
    hub.ranges = False
    hub.add("u/r", {"model.bhk": content})
    remote = RemoteFile(_ADDRESS)
    assert remote.length == len(content)
    assert remote.read(0, 300) == bytes(300)
    with pytest.raises(HubError, match="the server does not send ranges; download it with `bhk pull`"):
        remote.read(5_000_000, 10)
    close_session()
    assert all(request.sent < 10_000_000 for request in hub.requests)


def test_extra_bytes_are_ignored(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject("blob", headers={"Content-Range": "bytes 0-999/1000"})
    remote = RemoteFile(_ADDRESS)
    assert remote.length == 1000
    assert remote.read(0, 1000) == _CONTENT[:1000]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Encoding": "gzip"}, "a proxy compresses them; download it with `bhk pull`"),
        ({"Content-Range": f"bytes 0-999/{'9' * 5000}"}, "the server does not send ranges"),
    ],
)
def test_malformed_ranges(hub: FakeHub, headers: dict[str, str], message: str) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject("blob", headers=headers)
    with pytest.raises(HubError, match=message):
        RemoteFile(_ADDRESS)


def test_a_server_that_is_not_the_hub(hub: FakeHub) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject("resolve", headers={"X-Repo-Commit": ""})
    with pytest.raises(HubError, match="the answer is not from the Hub; check HF_ENDPOINT"):
        RemoteFile(_ADDRESS)


@pytest.mark.parametrize("stage", ["resolve", "blob"])
@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, [8.0]),
        ({"status": 500}, [1]),
        ({"status": 503, "times": 3}, [1, 2, 4]),
        ({"cut_after": 7, "times": 2}, [1, 2]),
    ],
)
def test_passing_faults_are_waited_for(hub: FakeHub, stage: str, fault: dict[str, int], waits: list[float]) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject(stage, **fault)  # type: ignore[arg-type]
    assert RemoteFile(_ADDRESS).read(0, 5000) == _CONTENT[:5000]
    assert hub.waits == waits


def test_an_interrupted_read_continues(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = _remote(hub, monkeypatch)
    hub.inject("blob", cut_after=60)
    assert remote.read(5000, 100) == _CONTENT[5000:5100]
    assert [request.range for request in hub.requests[-2:]] == ["bytes=5000-5099", "bytes=5060-5099"]


@pytest.mark.parametrize(
    ("stage", "fault", "kind", "message"),
    [
        ("resolve", {"status": 401}, HubError, r"does not accept the token.*\(401\)"),
        ("resolve", {"status": 403}, HubError, r"does not permit.*\(403"),
        ("resolve", {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, HubError, "does not exist"),
        ("resolve", {"status": 404, "headers": {"X-Error-Code": "EntryNotFound"}}, HubFileNotFoundError, "has no file"),
        ("resolve", {"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}, HubError, "has no revision"),
        ("resolve", {"status": 416}, HubError, r"refused.*\(416"),
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
        ("blob", {"status": 500}, HubUnreachableError, r"trouble.*\(500"),
        ("blob", {"cut_after": 0}, HubUnreachableError, "cannot reach the Hub"),
    ],
)
def test_lasting_faults(hub: FakeHub, stage: str, fault: dict[str, int], kind: type[HubError], message: str) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    hub.inject(stage, times=-1, **fault)  # type: ignore[arg-type]
    with pytest.raises(kind, match=message) as caught:
        RemoteFile(_ADDRESS)
    assert re.fullmatch(r"[^\n]*", str(caught.value))
    assert sum(hub.waits) < 60


def test_without_a_network_the_cached_copy_is_read(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("u/r", {"sam.bhk": weights()})
    names = list(bhk.load_state_dict(local_file("u/r")))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with bhk.open("hf://u/r") as file:
        assert list(file.names) == names
    assert bhk.inspect("hf://u/r/sam.bhk").path == "hf://u/r/sam.bhk"
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/s, and it is not in the cache"):
        bhk.open("hf://u/s")


def test_no_network_at_all(hub: FakeHub) -> None:
    hub.add("u/r", {"model.bhk": weights()})
    local_file("u/r")
    hub.close()
    close_session()
    with bhk.open("hf://u/r") as file:
        assert file.names
    assert not hub.waits
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://u/s"):
        bhk.open("hf://u/s")


def test_the_only_file_may_have_any_name(hub: FakeHub) -> None:
    hub.add("u/r", {"sam.bhk": weights(), "README.md": b""})
    hub.add("u/s", {"a.bhk": weights(), "b.bhk": weights()})
    with bhk.open("u/r") as file:
        assert file.container.source.name == "hf://u/r/sam.bhk"
    with pytest.raises(HubFileNotFoundError, match=r"a\.bhk, b\.bhk; name one"):
        bhk.open("hf://u/s")


def test_a_file_that_is_not_bhk(hub: FakeHub) -> None:
    hub.add("u/r", {"model.bhk": _CONTENT})
    with pytest.raises(bhk.BhkError, match=r"hf://u/r/model\.bhk is not a \.bhk file"):
        bhk.open("hf://u/r")
