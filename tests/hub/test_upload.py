from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import pytest
from huggingface_hub import utils

from bhk.hub.errors import HubError
from bhk.hub.upload import (
    ChangedFileError,
    ChangedMeanwhileError,
    LocalFile,
    NotArrivedError,
    NoTokenError,
    PullRequest,
    RemoteEntry,
    Uploader,
)
from hub.fake_hub import FakeHub

WEIGHTS = b"weights" * 1000


def _sent(hub: FakeHub) -> int:
    """Return the number of bytes of blobs that were sent."""
    return sum(request.received for request in list(hub.requests) if request.stage == "upload")


def test_hashes_match_storage_and_git(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text\n")
    for file in (LocalFile("a", tmp_path / "a"), LocalFile("a", b"text\n")):
        assert file.bytes == 5
        assert file.sha256 == hashlib.sha256(b"text\n").hexdigest()
        assert file.equals(RemoteEntry(5, file.sha256, "of the pointer"))
        assert file.equals(RemoteEntry(5, None, "8e27be7d6154a1f68ea9160ef0e18691d20560dc"))  # git hash-object
        assert not file.equals(None)
        assert not file.equals(RemoteEntry(6, file.sha256, ""))
        assert not file.equals(RemoteEntry(5, "0" * 64, "8e27be7d6154a1f68ea9160ef0e18691d20560dc"))
        assert not file.equals(RemoteEntry(5, None, "0" * 40))


def test_what_a_repository_holds(hub: FakeHub) -> None:
    commit = hub.add("user/sam", {"model.bhk": WEIGHTS, "a.txt": b"1", "other.txt": b"2"}, private=True)
    snapshot = Uploader("user/sam").look(["model.bhk", "a.txt", "none.txt"])
    assert snapshot is not None
    assert (snapshot.commit, snapshot.private) == (commit, True)
    assert set(snapshot.entries) == {"model.bhk", "a.txt"}
    assert LocalFile("model.bhk", WEIGHTS).equals(snapshot.entries["model.bhk"])
    assert LocalFile("a.txt", b"1").equals(snapshot.entries["a.txt"])
    assert snapshot.entries["a.txt"].sha256 is None


def test_a_missing_repository_is_created_once(hub: FakeHub) -> None:
    uploader = Uploader("user/sam")
    assert uploader.look(["a.txt"]) is None
    for _ in range(2):
        uploader.create(private=True)
        snapshot = uploader.look(["a.txt"])
        assert snapshot is not None
        assert (snapshot.private, snapshot.entries) == (True, {})


def test_a_refused_token_is_not_a_missing_repository(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "Expired" * 5)
    with pytest.raises(HubError, match="hf auth login") as caught:
        Uploader("user/none").look(["a.txt"])
    assert "Expired" not in str(caught.value)


def test_without_a_token_nothing_starts(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NoTokenError, match=r"cannot write to hf://user/sam.*hf auth login.*HF_TOKEN"):
        Uploader("user/sam")
    assert not hub.requests


def test_a_commit_holds_all_files_and_leaves_others_alone(hub: FakeHub, tmp_path: Path) -> None:
    before = hub.add("user/sam", {"a.txt": b"1", "b.txt": b"2"})
    (tmp_path / "sam.bhk").write_bytes(WEIGHTS)
    files = [LocalFile("model.bhk", tmp_path / "sam.bhk"), LocalFile("a.txt", b"3")]
    uploader = Uploader("user/sam")
    made = uploader.commit(files, before, message="Title")
    assert hub.files("user/sam") == {"model.bhk": WEIGHTS, "a.txt": b"3", "b.txt": b"2"}
    assert hub.commits("user/sam") == [made.id, before]
    assert made.pull_request is None
    assert _sent(hub) == len(WEIGHTS)
    uploader.check(files, made.id)


def test_somebody_else_commits_first(hub: FakeHub) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("commit", action=lambda: hub.add("user/sam", {"a.txt": b"2"}))
    uploader, file = Uploader("user/sam"), LocalFile("model.bhk", WEIGHTS)
    with pytest.raises(ChangedMeanwhileError, match="hf://user/sam"):
        uploader.commit([file], before, message="Title")
    assert hub.files("user/sam") == {"a.txt": b"2"}
    uploader.commit([file], hub.commits("user/sam")[0], message="Title")
    assert hub.files("user/sam") == {"a.txt": b"2", "model.bhk": WEIGHTS}
    assert _sent(hub) == len(WEIGHTS)
    assert [request.stage for request in list(hub.requests)].count(
        "lfs-batch"
    ) == 1  # the second time, it is not asked for


def test_a_pull_request_is_found_again(hub: FakeHub) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    uploader = Uploader("user/sam")
    assert uploader.open_pull_request("Title") is None
    made = uploader.commit([LocalFile("a.txt", b"2")], before, message="Title", create_pr=True)
    assert made.pull_request == PullRequest(f"{hub.url}/user/sam/discussions/1", "refs/pr/1")
    assert uploader.open_pull_request("Title") == made.pull_request
    assert uploader.open_pull_request("Another title") is None
    assert hub.files("user/sam") == {"a.txt": b"1"}
    assert hub.files("user/sam", "refs/pr/1") == {"a.txt": b"2"}
    uploader.check([LocalFile("a.txt", b"2")], made.id)


def test_a_file_that_is_replaced_after_it_was_sent_is_not_committed(hub: FakeHub, tmp_path: Path) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    path = tmp_path / "sam.bhk"
    path.write_bytes(WEIGHTS)

    def replace() -> None:
        (tmp_path / "new").write_bytes(WEIGHTS[::-1])
        (tmp_path / "new").replace(path)

    hub.inject("upload", action=replace)
    with pytest.raises(ChangedFileError, match=r"model\.bhk changed on this machine during the upload"):
        Uploader("user/sam").commit([LocalFile("model.bhk", path)], before, message="Title")
    assert hub.files("user/sam") == {"a.txt": b"1"}


@pytest.mark.parametrize("there", [{}, {"model.bhk": b"others"}, {"model.bhk": WEIGHTS[:-1] + b"S"}])
def test_missing_files_are_named(hub: FakeHub, there: dict[str, bytes]) -> None:
    commit = hub.add("user/sam", {**there, "a.txt": b"1"})
    with pytest.raises(NotArrivedError, match=rf"commit {commit[:8]} does not hold what was sent: model\.bhk differ"):
        Uploader("user/sam").check([LocalFile("model.bhk", WEIGHTS), LocalFile("a.txt", b"1")], commit)


def test_a_file_that_changes_during_the_upload_is_not_committed(hub: FakeHub, tmp_path: Path) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    path = tmp_path / "sam.bhk"
    path.write_bytes(WEIGHTS)
    file = LocalFile("model.bhk", path)
    assert file.sha256
    path.write_bytes(WEIGHTS[::-1])
    with pytest.raises(HubError):
        Uploader("user/sam").commit([file], before, message="Title")
    assert hub.files("user/sam") == {"a.txt": b"1"}


def test_the_library_is_silenced_and_restored(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("upload", status=503)
    hub.inject("yaml", status=200)
    level = utils.logging.get_verbosity()
    files = [
        LocalFile("model.bhk", WEIGHTS),
        LocalFile("other.bhk", WEIGHTS[1:]),
        LocalFile("README.md", b"# No metadata"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Uploader("user/sam").commit(files, before, message="Title")
    assert capfd.readouterr() == ("", "")
    assert utils.logging.get_verbosity() == level
    assert len(hub.waits) == 1
