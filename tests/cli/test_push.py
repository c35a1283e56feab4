from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hub.fake_hub import FakeHub

from cli.conftest import Shell


def test_it_reports_the_commit_and_how_to_load_it(bhk: Shell, converted: Path, hub: FakeHub) -> None:
    ended = bhk("push", "sam.bhk", "user/sam", "--license", "mit", "--private", environment=hub.environment)
    assert ended.status == 0, ended.err
    *table, last = ended.out.splitlines()
    assert [line.split()[0] for line in table[2:]] == ["model.bhk", "config.json", "README.md"]
    assert all(line.endswith("uploaded") for line in table[2:])
    commit = hub.commits("user/sam")[0]
    size = converted.stat().st_size / 1000
    assert last == f"{hub.url}/user/sam: commit {commit[:8]} of a new repository, {size:.3g} kB of weights"
    *hints, first, second, third = ended.err.splitlines()
    assert all(hint.startswith("warning: ") for hint in hints)
    assert (first, third) == ("import bhk", 'bhk.load_into(model, "hf://user/sam")')
    assert second.startswith("model = ...")
    assert hub.files("user/sam")["model.bhk"] == converted.read_bytes()
    assert hub.repositories["user/sam"].private

    ended = bhk("push", "sam.bhk", "user/sam", "--license", "mit", environment=hub.environment)
    assert ended.status == 0
    assert (
        ended.out.splitlines()[-1] == f"{hub.url}/user/sam: nothing to do, commit {commit[:8]} already holds all files"
    )
    assert hub.commits("user/sam")[0] == commit


def test_a_dry_run_shows_files_and_card(bhk: Shell, converted: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_TOKEN": ""}
    ended = bhk("push", "sam.bhk", "user/sam", "--dry-run", environment=nowhere)
    assert ended.status == 0, ended.err
    table, _, card = ended.out.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()[2:]] == ["model.bhk", "config.json", "README.md"]
    assert card.startswith("---\nlibrary_name: bhk\n")
    assert card.endswith("<!-- bhk:end -->\n")
    document = bhk("push", "sam.bhk", "user/sam", "--dry-run", "--json", environment=nowhere).document
    assert document["card"] == card
    assert document["files"][0] == {"name": "model.bhk", "bytes": converted.stat().st_size, "state": "planned"}
    assert document["commit"] is None


def test_several_files_and_every_option(bhk: Shell, converted: Path, hub: FakeHub) -> None:
    hub.add("user/sam", {"notes.txt": b"mine"})
    (bhk.folder / "small.bhk").write_bytes(converted.read_bytes())
    (bhk.folder / "LICENSE").write_text("text")
    options = (
        "--create-pr",
        "-m",
        "Smaller",
        "--include",
        "LICENSE",
        "--base-model",
        "facebook/sam",
        "--license",
        "mit",
    )
    document = bhk("push", "sam.bhk", "small.bhk", "user/sam", *options, "--json", environment=hub.environment).document
    (request,) = hub.pull_requests("user/sam")
    assert request.title == "Smaller"
    assert document["pull_request"] == f"{hub.url}/user/sam/discussions/1"
    assert document["sent_bytes"] == 2 * converted.stat().st_size
    assert set(hub.files("user/sam", "refs/pr/1")) == {
        "notes.txt",
        "sam.bhk",
        "small.bhk",
        "LICENSE",
        "config.json",
        "README.md",
    }
    ended = bhk("push", "sam.bhk", "small.bhk", "user/sam", *options, "--quiet", environment=hub.environment)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert len(hub.pull_requests("user/sam")) == 1


def test_into_a_folder(bhk: Shell, converted: Path) -> None:
    ended = bhk("push", "sam.bhk", "user/sam", "--out", "out", environment={"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert ended.status == 0, ended.err
    assert ended.out.splitlines()[-1] == "out: 3 files; nothing was sent to the Hub"
    assert {path.name for path in (bhk.folder / "out").iterdir()} == {"model.bhk", "config.json", "README.md"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["none.bhk", "user/sam"], "cannot read none.bhk: No such file or directory"),
        (["sam.bhk", "other.bhk"], "other.bhk is a file; expected a repository, user/repo"),
        (["sam.bhk", "user/sam", "--eval", "sam.bhk"], "sam.bhk is not a result of an evaluation"),
        (["sam.bhk", "user/sam", "--revision", "v2"], "does not exist or is private"),
    ],
)
def test_an_error_is_one_line(bhk: Shell, converted: Path, hub: FakeHub, args: list[str], message: str) -> None:
    assert message in bhk.fails("push", *args, environment=hub.environment)
    assert not hub.repositories


def test_nobody_is_logged_in(bhk: Shell, converted: Path, hub: FakeHub) -> None:
    environment = {**hub.environment, "HF_TOKEN": ""}
    assert "run `hf auth login`, or set HF_TOKEN" in bhk.fails("push", "sam.bhk", "user/sam", environment=environment)
    assert not hub.requests


def test_a_refusal_of_the_hub(bhk: Shell, converted: Path, hub: FakeHub) -> None:
    hub.inject("upload", status=403, headers={"X-Error-Message": f"no {hub.token}"}, times=-1)
    message = bhk.fails("push", "sam.bhk", "user/sam", environment=hub.environment)
    assert "hf://user/sam" in message
    assert hub.token not in message
    assert "Signature" not in message


def test_a_fresh_process(converted: Path, hub: FakeHub, python: Callable[..., list[str]]) -> None:
    environment = {**os.environ, **hub.environment}
    del environment["HF_HUB_DISABLE_PROGRESS_BARS"]
    ended = subprocess.run(
        python("push", converted, "user/sam", "--license", "mit", "--base-model", "facebook/sam-vit-base"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[0] == "import bhk"  # and no bars
    assert ended.stderr.splitlines()[2:] == ['bhk.load_into(model, "hf://user/sam")']
    assert hub.files("user/sam")["model.bhk"] == converted.read_bytes()
