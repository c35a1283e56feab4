"""A fault at the Hub leaves the repository in its old state or its new one, and the next push continues."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hub.fake_hub import FakeHub
from hub.repositories import Blob, HubFile
from huggingface_hub.utils import logging

from bhk import PushReport, push
from bhk.hub.errors import HubError
from bhk.hub.upload import NotArrivedError, RefusedContentError
from bhk.publishing.sending import NotCheckedError
from publishing.weights import weights

BEFORE = ("info", "paths-info", "resolve")
DURING = ("yaml", "preupload", "lfs-batch", "upload", "commit")
AFTER = ("info", "paths-info")
RETRIED = ("preupload", "lfs-batch", "upload")  # by huggingface_hub, five times
FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "403": {"status": 403},
    "404": {"status": 404},
    "409": {"status": 409},
    "412": {"status": 412},
    "429": {"status": 429, "headers": {"Retry-After": "7"}},
    "500": {"status": 500},
    "cut": {"cut_after": 0},
}
OLD = {"README.md": b"Mine.\n", "notes.txt": b"mine"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "sam.bhk").write_bytes(weights())
    return tmp_path / "sam.bhk"


@pytest.fixture
def there(hub: FakeHub) -> FakeHub:
    """The Hub, with a repository user/sam that somebody has begun by hand."""
    hub.add("user/sam", OLD)
    return hub


def _uploads(hub: FakeHub) -> int:
    """Return how often a complete blob was sent."""
    return sum(request.stage == "upload" and request.received == len(weights()) for request in list(hub.requests))


def _try(path: Path, **options: Any) -> PushReport | HubError:
    """Push, and return the report or the error, which must be one line."""
    try:
        return push(path, "user/sam", **options)
    except HubError as error:
        found = error
    assert str(found).isprintable()
    assert "user/sam" in str(found)
    return found


def _is_new(hub: FakeHub, revision: str = "main") -> bool:
    """Return whether the repository holds everything pushed; otherwise it must be unchanged."""
    if "user/sam" not in hub.repositories:
        return False
    files = hub.files("user/sam", revision)
    new = "model.bhk" in files
    if new:
        assert files["model.bhk"] == weights()
        assert files["README.md"].startswith(b"---\n")
        assert files.keys() >= {"config.json"}
    else:
        assert files in (OLD, {})
    return new


def _goes_on(hub: FakeHub, path: Path, **options: Any) -> PushReport:
    """Push without the fault, after which everything must be there."""
    hub.mend()
    report = push(path, "user/sam", **options)
    assert _is_new(hub, "refs/pr/1" if options.get("create_pr") else "main")
    return report


@pytest.mark.parametrize("stage", [*BEFORE, *DURING])
def test_lasting_faults(there: FakeHub, path: Path, stage: str) -> None:
    for name, fault in FAULTS.items():
        with there.trouble(stage, **fault):
            assert isinstance(_try(path), HubError), name
        assert not _is_new(there), name
    _goes_on(there, path)
    assert _uploads(there) == 1 or stage == "upload"


@pytest.mark.parametrize("fault", ["429", "500", "cut"])
@pytest.mark.parametrize("stage", RETRIED)
def test_a_passing_fault(there: FakeHub, path: Path, stage: str, fault: str) -> None:
    there.inject(stage, **FAULTS[fault])
    assert isinstance(_try(path), PushReport)
    assert _is_new(there)
    assert there.waits == ([8] if fault == "429" else [1])


@pytest.mark.parametrize("fault", ["409", "412"])
@pytest.mark.parametrize("stage", ["preupload", "commit"])
def test_a_passing_conflict(there: FakeHub, path: Path, stage: str, fault: str) -> None:
    there.inject(stage, **FAULTS[fault])
    assert isinstance(_try(path), PushReport)
    assert _is_new(there)


def test_a_repository_that_cannot_be_created(hub: FakeHub, path: Path) -> None:
    for name, fault in FAULTS.items():
        with hub.trouble("create", **fault):
            assert isinstance(_try(path), HubError), name
        assert not hub.repositories, name
    _goes_on(hub, path)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", AFTER)
def test_a_fault_after_the_commit(there: FakeHub, path: Path, stage: str, fault: str) -> None:
    there.inject("commit", action=lambda: there.inject(stage, times=-1, **FAULTS[fault]))
    found = _try(path)
    assert isinstance(found, NotCheckedError)
    assert there.commits("user/sam")[0][:8] in str(found)
    assert _is_new(there)
    assert not _goes_on(there, path).changed
    assert _uploads(there) == 1


@pytest.mark.parametrize("options", [{}, {"create_pr": True}])
@pytest.mark.parametrize("fault", [{"status": 500}, {"cut_after": 0}])
def test_a_commit_whose_answer_is_lost(
    there: FakeHub, path: Path, fault: dict[str, Any], options: dict[str, bool]
) -> None:
    there.inject("commit", done=True, **fault)
    assert isinstance(_try(path, **options), HubError)
    commits = len(there.repositories["user/sam"].commits)
    assert not _goes_on(there, path, **options).changed
    assert len(there.repositories["user/sam"].commits) == commits
    assert len(there.pull_requests("user/sam")) == len(options)
    assert _uploads(there) == 1


@pytest.mark.parametrize("stage", ["whoami", "discussions", "commit"])
def test_faults_of_a_pull_request(there: FakeHub, path: Path, stage: str) -> None:
    for name, fault in FAULTS.items():
        with there.trouble(stage, **fault):
            assert isinstance(_try(path, create_pr=True), HubError), name
        assert not there.pull_requests("user/sam"), name
    _goes_on(there, path, create_pr=True)
    assert len(there.pull_requests("user/sam")) == 1
    assert not _is_new(there)


def test_a_blob_that_is_corrupted_in_transit(there: FakeHub, path: Path) -> None:
    there.inject("upload", corrupt=True)
    assert isinstance(_try(path), HubError)
    assert not _is_new(there)
    assert not there.blobs
    _goes_on(there, path)


def test_a_repository_that_holds_something_else_in_the_end(there: FakeHub, path: Path) -> None:
    def tamper() -> None:
        commit = there.repositories["user/sam"].at("main")
        commit.files["model.bhk"] = HubFile(Blob(weights()[::-1]), True)

    there.inject("commit", action=lambda: there.inject("paths-info", action=tamper))
    found = _try(path)
    assert isinstance(found, NotArrivedError)
    assert "model.bhk" in str(found)
    _goes_on(there, path)


def test_a_card_that_the_hub_refuses(there: FakeHub, path: Path) -> None:
    there.add("user/sam", {"README.md": b"---\nlicense: My Own!\n---\nMine.\n"})
    with pytest.raises(RefusedContentError, match='"license" must be one of the known'):
        push(path, "user/sam")
    assert "commit" not in [request.stage for request in list(there.requests)]


def _expired(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "Expired" * 5)


def _offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def _no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("trouble", "message"), [(_expired, "hf auth login"), (_offline, "HF_HUB_OFFLINE"), (_no_network, "network")]
)
@pytest.mark.parametrize("fixture", ["hub", "there"])
def test_nobody_answers(
    request: pytest.FixtureRequest, path: Path, fixture: str, trouble: Callable[..., None], message: str
) -> None:
    hub: FakeHub = request.getfixturevalue(fixture)
    with pytest.MonkeyPatch.context() as monkeypatch:
        trouble(hub, monkeypatch)
        found = _try(path)
    assert isinstance(found, HubError)
    assert message in str(found)
    assert not _is_new(hub)
    _goes_on(hub, path)


@pytest.fixture
def talkative() -> Iterator[None]:
    """Let huggingface_hub log everything it does."""
    level = logging.get_verbosity()
    logging.set_verbosity_debug()
    yield
    logging.set_verbosity(level)


@pytest.mark.usefixtures("talkative")
@pytest.mark.parametrize("stage", ["create", *BEFORE, *DURING])
def test_the_token_is_never_shown(
    hub: FakeHub, path: Path, stage: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    if stage != "create":
        hub.add("user/sam", OLD)
    said = {"X-Error-Message": f"Bearer {hub.token} is no good: {hub.token}"}
    for status in (400, 403, 500):
        hub.inject(stage, status=status, headers=said, times=-1)
        found = _try(path)
        hub.mend()
        assert isinstance(found, HubError)
        told = "".join(
            [*traceback.format_exception(found), *map(repr, _chain(found)), caplog.text, *capfd.readouterr()]
        )
        assert hub.token not in told
        assert "X-Amz-Signature" not in told


def _chain(error: BaseException | None) -> Iterator[object]:
    """Yield an error, its causes, and what they hold."""
    while error is not None:
        yield from (error, vars(error))
        error = error.__cause__ or error.__context__
