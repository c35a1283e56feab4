"""huggingface_hub itself against the fake Hub, on which the tests of publishing and loading rely."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, errors, hf_hub_download
from huggingface_hub.utils import _http

from hub.fake_hub import FakeHub

httpx = getattr(_http, "httpx2", None) or _http.httpx  # by the version of huggingface_hub
_WEIGHTS = bytes(range(256)) * 700


def _add(name: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(name, content)


def test_large_and_small_files_are_uploaded_and_downloaded(hub: FakeHub) -> None:
    api = HfApi()
    api.create_repo("user/sam", private=True)
    made = api.create_commit(
        "user/sam",
        [_add("model.bhk", _WEIGHTS), _add("config.json", b"{}"), _add("README.md", b"---\nlicense: mit\n---\n# SAM")],
        commit_message="first",
        parent_commit=hub.commits("user/sam")[0],
    )
    assert hub.commits("user/sam")[0] == made.oid
    assert hub.files("user/sam")["model.bhk"] == _WEIGHTS
    assert Path(hf_hub_download("user/sam", "model.bhk")).read_bytes() == _WEIGHTS
    assert Path(hf_hub_download("user/sam", "config.json")).read_bytes() == b"{}"
    stages = [request.stage for request in hub.requests]
    upload = ["create", "yaml", "preupload", "lfs-batch", "upload", "commit"]
    assert stages == [*upload, "resolve", "blob", "resolve", "resolve"]
    assert not hub.requests[stages.index("blob")].authorization


def test_existing_files_are_reported_and_not_uploaded_again(hub: FakeHub) -> None:
    api = HfApi()
    commit = hub.add("user/sam", {"model.bhk": _WEIGHTS, "a/b.txt": b"text"})
    info = api.model_info("user/sam", files_metadata=True)
    assert (info.sha, [file.rfilename for file in info.siblings or []]) == (commit, ["a/b.txt", "model.bhk"])
    (found,) = api.get_paths_info("user/sam", ["model.bhk", "none"])
    assert found.lfs is not None
    assert found.lfs.size == len(_WEIGHTS)
    assert [file.path for file in api.list_repo_tree("user/sam", recursive=True)] == ["a", "a/b.txt", "model.bhk"]
    assert [entry.commit_id for entry in api.list_repo_commits("user/sam")] == [commit]
    again = api.create_commit("user/sam", [_add("model.bhk", _WEIGHTS)], commit_message="again")
    assert again.oid == commit
    api.create_commit("user/sam", [_add("copy.bhk", _WEIGHTS)], commit_message="a copy")
    assert not any(request.stage == "upload" for request in hub.requests)


def test_pull_requests_and_branches(hub: FakeHub) -> None:
    api = HfApi()
    hub.add("user/sam", {"a.txt": b"1"})
    made = api.create_commit("user/sam", [_add("a.txt", b"2")], commit_message="two", create_pr=True)
    assert made.pr_revision == "refs/pr/1"
    assert [(found.num, found.title) for found in api.get_repo_discussions("user/sam")] == [(1, "two")]
    api.create_commit("user/sam", [_add("b.txt", b"3")], commit_message="three", revision="refs/pr/1")
    assert hub.files("user/sam", "refs/pr/1") == {"a.txt": b"2", "b.txt": b"3"}
    assert hub.files("user/sam") == {"a.txt": b"1"}
    api.create_branch("user/sam", branch="next")
    refs = api.list_repo_refs("user/sam", include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "next"]
    assert [ref.ref for ref in refs.pull_requests or []] == ["refs/pr/1"]


def test_a_concurrent_commit(hub: FakeHub) -> None:
    before = hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("commit", action=lambda: hub.add("user/sam", {"a.txt": b"other"}))
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        HfApi().create_commit("user/sam", [_add("a.txt", b"2")], commit_message="two", parent_commit=before)
    assert hub.files("user/sam") == {"a.txt": b"other"}


@pytest.mark.parametrize("stage", ["preupload", "lfs-batch", "upload", "commit"])
@pytest.mark.parametrize("fault", [{"status": 403}, {"cut_after": 10}])
def test_faults_at_each_stage_of_a_commit(hub: FakeHub, stage: str, fault: dict[str, int]) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.inject(stage, times=-1, **fault)
    with pytest.raises((httpx.HTTPError, RuntimeError)):
        HfApi().create_commit("user/sam", [_add("model.bhk", _WEIGHTS)], commit_message="two")
    assert hub.files("user/sam") == {"a.txt": b"1"}


def test_a_damaged_upload_is_not_kept(hub: FakeHub) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("upload", corrupt=True)
    with pytest.raises(RuntimeError):
        HfApi().create_commit("user/sam", [_add("model.bhk", _WEIGHTS)], commit_message="two")
    assert not hub.blobs


def test_an_answer_that_was_lost(hub: FakeHub) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("commit", status=500, done=True)
    with pytest.raises(errors.HfHubHTTPError, match="500"):
        HfApi().create_commit("user/sam", [_add("a.txt", b"2")], commit_message="two")
    assert hub.files("user/sam") == {"a.txt": b"2"}


def test_an_interrupted_download_continues(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.add("user/sam", {"model.bhk": _WEIGHTS})
    hub.inject("blob", cut_after=100_000)
    assert Path(hf_hub_download("user/sam", "model.bhk")).read_bytes() == _WEIGHTS
    assert [request.range for request in hub.requests if request.stage == "blob"] == [None, "bytes=100000-"]


def test_a_corrupted_download_has_the_right_length(hub: FakeHub) -> None:
    hub.add("user/sam", {"model.bhk": _WEIGHTS})
    hub.inject("blob", corrupt=True)
    found = Path(hf_hub_download("user/sam", "model.bhk")).read_bytes()
    assert len(found) == len(_WEIGHTS)
    assert found != _WEIGHTS


def test_who_may_see_what(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("user/private", {"a.txt": b"1"}, private=True)
    hub.add("other/gated", {"a.txt": b"1"}, gated="manual")
    hub.add("user/open", {"a.txt": b"1"})
    with pytest.raises(errors.GatedRepoError):
        hf_hub_download("other/gated", "a.txt")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(errors.RepositoryNotFoundError):
        HfApi().model_info("user/private")
    with pytest.raises(errors.HfHubHTTPError, match="401"):
        HfApi().create_repo("user/new")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials"):
        HfApi().model_info("user/open")


def test_cards_are_validated(hub: FakeHub) -> None:
    ModelCard("---\nlicense: apache-2.0\nbase_model: facebook/sam-vit-base\n---\n# SAM").validate()
    with pytest.raises(ValueError, match="base_model_relation"):
        ModelCard("---\nbase_model_relation: smaller\n---\n# SAM").validate()
