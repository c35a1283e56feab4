"""Every command that takes a .bhk file also takes its address on the Hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub.fake_hub import FakeHub

from cli.conftest import Shell


@pytest.fixture
def there(hub: FakeHub, converted: Path) -> FakeHub:
    """The Hub, with the converted file in the repository user/tiny."""
    hub.add("user/tiny", {"model.bhk": converted})
    return hub


@pytest.mark.parametrize("address", ["hf://user/tiny", "hf://user/tiny/model.bhk@main", "user/tiny"])
def test_inspect_fetches_only_the_header(bhk: Shell, there: FakeHub, address: str) -> None:
    remote = bhk("inspect", address, environment=there.environment)
    assert (remote.status, remote.err) == (0, "")
    assert remote.out == bhk("inspect", "sam.bhk").out
    assert [request.stage for request in there.requests] == ["resolve", "blob"]


def test_inspect_as_a_document(bhk: Shell, there: FakeHub) -> None:
    document = bhk("inspect", "hf://user/tiny", "--json", environment=there.environment).document
    assert document["path"] == "hf://user/tiny"


def test_the_other_commands_read_it_through_the_cache(bhk: Shell, source: Path, there: FakeHub) -> None:
    def run(*args: str) -> str:
        ended = bhk(*args, environment=there.environment)
        assert (ended.status, ended.err) == (0, "")
        return ended.out

    assert run("verify", "hf://user/tiny").startswith("hf://user/tiny is intact: ")
    assert "exact tensors equal to the original" in run("verify", "hf://user/tiny", "--against", "sam.pth")
    assert run("export", "hf://user/tiny", "-o", "dense.pth").startswith("dense.pth: ")
    assert run("diff", "dense.pth", "hf://user/tiny") == "4 equal\n"
    assert sum(request.stage == "blob" and request.range is None for request in there.requests) == 1


def test_a_repository_that_does_not_exist(bhk: Shell, hub: FakeHub) -> None:
    found = bhk.fails("inspect", "hf://user/none", environment=hub.environment)
    assert found == "hf://user/none does not exist or is private; check the name, or run `hf auth login`"
