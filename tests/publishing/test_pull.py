from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub.fake_hub import FakeHub
from huggingface_hub.utils import close_session

from bhk import pull
from bhk.base.files import DestinationExistsError, ReadError, WriteError
from bhk.hub.errors import HubError, HubFileNotFoundError, HubUnreachableError
from bhk.publishing.pull import UnsoundFileError
from publishing.weights import weights

_DAMAGED = weights()[:-20] + bytes([weights()[-20] ^ 1]) + weights()[-19:]
_FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("resolve", {"status": 401}, r"does not accept the token.*\(401\)"),
    ("resolve", {"status": 403}, r"does not permit.*\(403"),
    ("resolve", {"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, "is gated"),
    ("resolve", {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "does not exist or is private"),
    ("resolve", {"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}, "has no revision"),
    ("resolve", {"status": 429, "headers": {"Retry-After": "9"}}, r"too many requests to the Hub \(429\)"),
    ("resolve", {"status": 500}, r"trouble.*\(500"),
    ("resolve", {"cut_after": 0}, "cannot reach the Hub"),
    ("blob", {"status": 403}, r"\(403"),
    ("blob", {"status": 404}, r"\(404"),
    ("blob", {"status": 429, "headers": {"Retry-After": "9"}}, r"too many requests to the Hub \(429\)"),
    ("blob", {"status": 500}, r"trouble.*\(500"),
    ("blob", {"cut_after": 100}, "cannot reach the Hub"),
    ("blob", {"corrupt": True}, "damaged in the download"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_downloaded_and_verified(hub: FakeHub, here: Path) -> None:
    commit = hub.add("user/sam", {"model.bhk": weights()})
    told: list[tuple[str, int, int]] = []
    report = pull("user/sam", progress=lambda *done: told.append(done))
    assert report.path == Path("sam.bhk")
    assert report.path.read_bytes() == weights()
    assert (report.repository, report.file, report.commit) == ("user/sam", "model.bhk", commit)
    assert (report.bytes, report.tensors) == (len(weights()), 3)
    assert report.streams > 3
    assert {what: done / total for what, done, total in told} == {"Downloading": 1, "Verifying": 1}
    assert os.listdir(here) == ["sam.bhk"]


@pytest.mark.parametrize(
    ("repository", "file", "written", "source"),
    [
        ("user/sam", None, "sam.bhk", "model.bhk"),
        ("https://huggingface.co/user/sam", None, "sam.bhk", "model.bhk"),
        ("https://huggingface.co/user/sam/blob/main/small.bhk", None, "small.bhk", "small.bhk"),
        ("user/sam", "small.bhk", "small.bhk", "small.bhk"),
        ("hf://user/sam/a/model.bhk", None, "sam.bhk", "a/model.bhk"),
        ("hf://user/sam/a@v2", None, "sam.bhk", "a/model.bhk"),
    ],
)
def test_the_file_and_where_it_is_written(
    hub: FakeHub, here: Path, repository: str, file: str | None, written: str, source: str
) -> None:
    files = {name: weights(seed) for seed, name in enumerate(("model.bhk", "small.bhk", "a/model.bhk"))}
    hub.add("user/sam", files)
    hub.add("user/sam", {}, revision="v2")
    assert pull(repository, file=file).file == source
    assert (here / written).read_bytes() == files[source]


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE])
def test_a_fault_of_this_machine_keeps_the_cached_copy(
    hub: FakeHub, here: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    pull("user/sam", "first.bhk")
    with monkeypatch.context() as patched:

        def refused(*_: object) -> bytes:
            raise OSError(number, os.strerror(number))

        patched.setattr(os, "pread", refused)
        with pytest.raises(ReadError, match=os.strerror(number)):
            pull("user/sam")
    assert os.listdir(here) == ["first.bhk"]
    downloads = sum("blob" in str(request) for request in hub.requests)
    pull("user/sam")
    assert sum("blob" in str(request) for request in hub.requests) == downloads  # not downloaded again


def test_a_folder_to_write_to(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": weights(), "small.bhk": weights(1)})
    assert pull("user/sam", out=here).path == here / "sam.bhk"
    assert pull("user/sam", here, file="small.bhk").path == here / "small.bhk"
    assert pull("user/sam", out=here).there_already
    (here / "sam.bhk").write_bytes(weights(2))
    with pytest.raises(DestinationExistsError):
        pull("user/sam", out=here)
    assert (here / "sam.bhk").read_bytes() == weights(2)


def test_a_missing_folder_is_not_taken_for_a_file(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    with pytest.raises(WriteError, match="folder new does not exist"):
        pull("user/sam", out="new/")
    assert not (here / "new").exists()


def test_the_only_file_of_a_repository(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"vit_b.bhk": weights()})
    assert pull("user/sam", out=here / "x.bhk").file == "vit_b.bhk"
    hub.add("user/sam", {"vit_h.bhk": weights()})
    with pytest.raises(HubFileNotFoundError, match=r"vit_b\.bhk, vit_h\.bhk; name one"):
        pull("user/sam")


@pytest.mark.parametrize(
    ("repository", "file", "message"),
    [
        ("sam", None, "expected hf://user/repo"),
        ("hf://user/sam/a.bhk", "b.bhk", "already names a file"),
        ("user/sam", "config.json", r"is not a \.bhk file; get other files with `hf download`"),
    ],
)
def test_addresses_that_cannot_be_pulled(
    hub: FakeHub, here: Path, repository: str, file: str | None, message: str
) -> None:
    with pytest.raises(HubError, match=message):
        pull(repository, file=file)
    assert not hub.requests


def test_existing_files_are_replaced_only_by_force(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    (here / "sam.bhk").write_bytes(b"mine")
    with pytest.raises(DestinationExistsError):
        pull("user/sam")
    assert (here / "sam.bhk").read_bytes() == b"mine"
    pull("user/sam", force=True)
    assert (here / "sam.bhk").read_bytes() == weights()
    with pytest.raises(WriteError, match="does not exist"):
        pull("user/sam", out="no/such/folder.bhk")


@pytest.mark.parametrize(("stage", "fault", "message"), _FAULTS)
def test_a_fault_leaves_what_was_there_and_the_next_try_succeeds(
    hub: FakeHub, here: Path, stage: str, fault: dict[str, Any], message: str
) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    (here / "sam.bhk").write_bytes(b"old")
    with hub.trouble(stage, **fault), pytest.raises(HubError, match=message) as caught:
        pull("user/sam", force=True)
    assert "\n" not in str(caught.value)
    assert (here / "sam.bhk").read_bytes() == b"old"
    assert os.listdir(here) == ["sam.bhk"]
    pull("user/sam", force=True)
    assert (here / "sam.bhk").read_bytes() == weights()


def test_a_file_that_was_published_damaged_is_refused(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": _DAMAGED})
    (here / "sam.bhk").write_bytes(b"old")
    with pytest.raises(
        UnsoundFileError, match=r"hf://user/sam/model\.bhk is not an intact \.bhk file.*cached copy was removed"
    ):
        pull("user/sam", force=True)
    assert (here / "sam.bhk").read_bytes() == b"old"
    hub.add("user/sam", {"model.bhk": weights()})
    pull("user/sam", force=True)
    assert (here / "sam.bhk").read_bytes() == weights()


def test_a_damaged_cached_copy_is_downloaded_again(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    pull("user/sam", out="first.bhk")
    blob = next(Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("model.bhk")).resolve()
    blob.write_bytes(_DAMAGED)
    os.utime(blob, (0, 0))
    with pytest.raises(UnsoundFileError):
        pull("user/sam")
    pull("user/sam")
    assert (here / "sam.bhk").read_bytes() == weights()


def test_an_expired_token(hub: FakeHub, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("user/sam", {"model.bhk": weights()}, private=True)
    expired = "hf_" + "Xy9" * 11
    monkeypatch.setenv("HF_TOKEN", expired)
    with pytest.raises(HubError, match=r"does not accept the token.*expired; run `hf auth login`") as caught:
        pull("user/sam")
    assert expired not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert pull("user/sam").bytes == len(weights())


def test_a_repository_that_changes_during_the_download_gives_one_version(hub: FakeHub, here: Path) -> None:
    commit = hub.add("user/sam", {"model.bhk": weights()})
    hub.inject("blob", action=lambda: hub.add("user/sam", {"model.bhk": weights(1)}))
    assert pull("user/sam").commit == commit
    assert (here / "sam.bhk").read_bytes() == weights()


def test_no_network(hub: FakeHub, here: Path) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    first = pull("user/sam", out="first.bhk")
    hub.add("user/sam", {"model.bhk": weights(1)})
    hub.close()
    close_session()
    found = pull("user/sam")
    assert (found.commit, found.from_cache, first.from_cache) == (first.commit, True, False)
    with pytest.raises(HubUnreachableError, match="cannot reach the Hub for hf://user/other"):
        pull("user/other")


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"cut_after": 0}])
def test_a_hub_in_trouble_leaves_the_cached_copy(hub: FakeHub, here: Path, fault: dict[str, int]) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    assert not pull("user/sam").from_cache
    with hub.trouble("resolve", **fault):
        assert pull("user/sam", force=True).from_cache
    assert not pull("user/sam", force=True).from_cache


def test_a_refused_file_is_not_taken_from_the_cache(hub: FakeHub, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("user/sam", {"model.bhk": weights()}, private=True)
    pull("user/sam", out="first.bhk")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="does not exist or is private"):
        pull("user/sam")
    assert os.listdir(here) == ["first.bhk"]


def test_no_space_on_the_disk(hub: FakeHub, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("user/sam", {"model.bhk": weights()})
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no disk that is full")
    monkeypatch.setattr(Path, "open", _on_full_disk(Path.open))
    with pytest.raises(HubError, match=r"no space is left.*set HF_HOME to another disk"):
        pull("user/sam")
    monkeypatch.undo()
    assert not os.listdir(here)


def _on_full_disk(real: Any) -> Any:
    def opened(path: Path, mode: str = "r", *args: Any, **settings: Any) -> Any:
        return real(Path("/dev/full") if path.suffix == ".incomplete" else path, mode, *args, **settings)

    return opened


def test_no_token_and_no_signature_anywhere(
    hub: FakeHub, here: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.add("user/sam", {"model.bhk": weights()}, private=True)
    texts = []
    for stage, fault, _ in _FAULTS:
        said = {**fault.get("headers", {}), "X-Error-Message": f"Bearer {hub.token} is not good, nor {hub.token}"}
        with hub.trouble(stage, **{**fault, "headers": said}), pytest.raises(HubError) as caught:
            pull("user/sam")
        assert caught.value.__context__ is None
        texts += traceback.format_exception(caught.value)
    streams = capfd.readouterr()
    seen = "".join([*texts, caplog.text, streams.out, streams.err])
    assert "hf_***" in seen
    assert hub.token not in seen
    assert "Signature" not in seen
    assert not any(hub.token in request.path for request in hub.requests)
