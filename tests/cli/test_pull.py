from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hub.fake_hub import FakeHub

from cli.conftest import Shell


@pytest.fixture
def there(hub: FakeHub, converted: Path) -> FakeHub:
    """The Hub, with the converted file in user/tiny."""
    hub.add("user/tiny", {"model.bhk": converted})
    return hub


def test_it_reports_the_file(bhk: Shell, converted: Path, there: FakeHub) -> None:
    ended = bhk("pull", "user/tiny", environment=there.environment)
    assert (ended.status, ended.err) == (0, "")
    commit = there.commits("user/tiny")[0]
    size = f"{converted.stat().st_size / 1000:.3g} kB"
    assert ended.out == f"tiny.bhk: {size}, 4 tensors and 6 streams checked, from user/tiny at commit {commit[:8]}\n"
    assert (bhk.folder / "tiny.bhk").read_bytes() == converted.read_bytes()


def test_the_document(bhk: Shell, converted: Path, there: FakeHub) -> None:
    document = bhk("pull", "user/tiny", "model.bhk", "--out", "a.bhk", "--json", environment=there.environment).document
    assert document == {
        "path": "a.bhk",
        "repository": "user/tiny",
        "file": "model.bhk",
        "commit": there.commits("user/tiny")[0],
        "from_cache": False,
        "bytes": converted.stat().st_size,
        "tensors": 4,
        "streams": 6,
        "there_already": False,
    }


def test_quiet_says_nothing(bhk: Shell, there: FakeHub) -> None:
    ended = bhk("pull", "user/tiny", "--quiet", environment=there.environment)
    assert (ended.status, ended.out, ended.err) == (0, "", "")


def test_existing_files_are_not_replaced(bhk: Shell, there: FakeHub) -> None:
    (bhk.folder / "tiny.bhk").write_bytes(b"mine")
    assert "tiny.bhk exists; use --force to overwrite it" in bhk.fails(
        "pull", "user/tiny", environment=there.environment
    )
    assert bhk("pull", "user/tiny", "--force", environment=there.environment).status == 0


def test_what_is_there_already_is_left_alone(bhk: Shell, there: FakeHub) -> None:
    bhk("pull", "user/tiny", environment=there.environment)
    before = (bhk.folder / "tiny.bhk").stat().st_mtime_ns
    ended = bhk("pull", "user/tiny", environment=there.environment)
    assert ended.status == 0
    assert "tiny.bhk: there already, " in ended.out
    assert (bhk.folder / "tiny.bhk").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("stage", "fault", "message"),
    [
        ("resolve", {"status": 401}, "does not accept the token for hf://user/tiny (401)"),
        ("resolve", {"status": 403}, "does not permit this with hf://user/tiny (403)"),
        ("resolve", {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "does not exist or is private"),
        ("blob", {"status": 500}, "has trouble with hf://user/tiny (500: Internal Server Error)"),
        ("blob", {"corrupt": True}, "damaged in the download"),
    ],
)
def test_a_fault_is_one_line(bhk: Shell, there: FakeHub, stage: str, fault: dict[str, Any], message: str) -> None:
    there.inject(stage, times=-1, **fault)
    found = bhk.fails("pull", "user/tiny", environment=there.environment)
    assert message in found
    assert not (bhk.folder / "tiny.bhk").exists()
    assert there.token not in found


@pytest.mark.parametrize(("options", "lines"), [((), 1), (("--quiet",), 0)])
def test_waiting_is_announced(bhk: Shell, there: FakeHub, options: tuple[str, ...], lines: int) -> None:
    there.inject("blob", status=429, headers={"Retry-After": "0"})
    ended = bhk("pull", "user/tiny", *options, environment=there.environment)
    assert ended.status == 0
    assert ended.err.count("waiting for the Hub: rate limited. Waiting 1.0s") == ended.err.count("\n") == lines


def test_the_cache_is_used_offline(bhk: Shell, there: FakeHub) -> None:
    offline = {**there.environment, "HF_HUB_OFFLINE": "1"}
    assert "check the network and HF_HUB_OFFLINE" in bhk.fails("pull", "user/tiny", environment=offline)
    assert bhk("pull", "user/tiny", environment=there.environment).status == 0
    ended = bhk("pull", "user/tiny", "--force", environment=offline)
    commit = there.commits("user/tiny")[0]
    assert ended.status == 0
    assert ended.err == f"the Hub could not be reached; this is the cached copy, of commit {commit[:8]}\n"
