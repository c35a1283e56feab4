from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from hub.fake_hub import FakeHub

import bhk
from bhk import Card, PushReport, push, verify
from bhk.base.files import ReadError, WriteError
from bhk.base.hashes import sha256
from bhk.hub.errors import HubError
from bhk.hub.upload import ChangedMeanwhileError, NoTokenError
from bhk.publishing.content import PublicationError
from bhk.publishing.licenses import UnknownLicenseError
from bhk.publishing.repository import UnpublishableFileError
from bhk.publishing.sending import ATTEMPTS
from bhk.publishing.template import TemplateError
from publishing.made_up import bhk_file, fidelity, written
from publishing.weights import weights, weights_of_transformers

MADE = ["model.bhk", "config.json", "README.md"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A .bhk file."""
    return _write(tmp_path / "sam.bhk")


def _write(path: Path, content: bytes | None = None) -> Path:
    path.write_bytes(weights() if content is None else content)
    return path


def _states(report: PushReport) -> dict[str, str]:
    return {file.name: file.state for file in report.files}


def _stages(hub: FakeHub) -> list[str]:
    return [request.stage for request in list(hub.requests)]


def _sent(hub: FakeHub) -> int:
    return sum(request.received for request in list(hub.requests) if request.stage == "upload")


def test_a_new_repository(hub: FakeHub, path: Path) -> None:
    report = push(path, "user/sam", private=True)
    files = hub.files("user/sam")
    assert list(_states(report)) == MADE
    assert set(files) >= set(MADE)
    assert files["model.bhk"] == weights()
    assert files["README.md"].decode() == report.card
    assert {file.name: file.bytes for file in report.files} == {name: len(files[name]) for name in MADE}
    assert set(_states(report).values()) == {"uploaded"}
    assert (report.created, report.changed, report.pull_request) == (True, True, None)
    assert (report.url, report.commit) == (f"{hub.url}/user/sam", hub.commits("user/sam")[0])
    assert report.sent_bytes == _sent(hub) == len(weights())
    assert hub.repositories["user/sam"].private


def test_pushing_twice_does_nothing(hub: FakeHub, path: Path) -> None:
    first = push(path, "user/sam")
    commits, sent, before = hub.commits("user/sam"), _sent(hub), len(hub.requests)
    second = push(path, "hf://user/sam")
    assert hub.commits("user/sam") == commits
    assert _sent(hub) == sent
    assert _stages(hub)[before:] == ["info", "paths-info", "resolve", "resolve"]  # the last two for the card
    assert (second.changed, second.created, second.sent_bytes, second.commit) == (False, False, 0, first.commit)
    assert set(_states(second).values()) == {"unchanged"}
    assert second.card == first.card


def test_only_changed_files_are_sent(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    push(path, "user/sam")
    notes = _write(tmp_path / "NOTES", b"text")
    report = push(path, "user/sam", include=notes)
    assert _states(report) == {
        "model.bhk": "unchanged",
        "config.json": "unchanged",
        "NOTES": "uploaded",
        "README.md": "unchanged",
    }
    assert report.sent_bytes == 0
    assert _sent(hub) == len(weights())
    assert hub.files("user/sam")["NOTES"] == b"text"


def test_several_files_of_a_model_of_transformers(hub: FakeHub, tmp_path: Path) -> None:
    fine, small = _write(tmp_path / "fine.bhk", weights_of_transformers()), _write(tmp_path / "small.bhk")
    report = push([fine, small], "user/sam")
    assert list(_states(report)) == ["fine.bhk", "small.bhk", "config.json", "preprocessor_config.json", "README.md"]
    config = json.loads(hub.files("user/sam")["config.json"])
    assert (config["model_type"], config["transformers_weights"]) == ("sam", "fine.bhk")
    assert report.usage[-1] == 'bhk.load_into(model, "hf://user/sam/fine.bhk")'


def test_hand_written_text_and_other_files_are_kept(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"README.md": b"---\r\nlanguage: en\r\n---\r\nMine.\r\n", "notes.txt": b"mine"})
    report = push(path, "user/sam", card=Card(license="mit"))
    files = hub.files("user/sam")
    assert files["notes.txt"] == b"mine"
    assert b"language: en\r\n" in files["README.md"]
    assert b"license: mit\r\n" in files["README.md"]
    assert files["README.md"].index(b"\r\nMine.\r\n") < files["README.md"].index(b"bhk:begin")
    assert files["README.md"].decode() == report.card
    assert not push(path, "user/sam", card=Card(license="mit")).changed


@pytest.mark.parametrize("options", [{}, {"create_pr": True}])
@pytest.mark.parametrize(
    "config", [b'{"model_type": "sam"}', b'{"quantization_config": {"quant_method": "gptq"}}', b"no"]
)
def test_a_config_that_others_load_by_is_not_replaced(
    hub: FakeHub, path: Path, config: bytes, options: dict[str, Any]
) -> None:
    before = {"config.json": config, "model.safetensors": b"weights"}
    hub.add("user/sam", dict(before))
    with pytest.raises(PublicationError, match=r"config\.json that bhk did not write.*in another repository"):
        push(path, "user/sam", **options)
    assert hub.files("user/sam") == before
    assert not hub.pull_requests("user/sam")
    assert not _sent(hub)


def test_a_config_of_bhk_is_replaced(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    push(path, "user/sam")
    report = push(_write(tmp_path / "other.bhk", weights_of_transformers()), "user/sam")
    assert _states(report)["config.json"] == "uploaded"
    assert json.loads(hub.files("user/sam")["config.json"])["model_type"] == "sam"


def test_an_existing_card_that_is_not_text(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"README.md": b"\xff\xfe"})
    with pytest.raises(PublicationError, match=r"README\.md of hf://user/sam is not UTF-8 text"):
        push(path, "user/sam")


def test_the_card_follows_its_options(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    template = _write(tmp_path / "card.md", "# Größe\n\n{{ summary }}\n{{ loading }}\n{{ provenance }}\n".encode())
    report = push(path, "user/sam", card=Card(template=template, base_model="facebook/sam-vit-base"), dry_run=True)
    assert "# Größe" in report.card
    assert "facebook/sam-vit-base" in report.card


def test_a_dry_run_needs_no_network_and_no_token(
    hub: FakeHub, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a dry run opened a connection")

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    before = sorted(tmp_path.iterdir())
    report = push(path, "user/sam", dry_run=True, out=tmp_path / "out")
    assert not hub.requests
    assert sorted(tmp_path.iterdir()) == before
    assert _states(report) == dict.fromkeys(MADE, "planned")
    assert report.files[0].bytes == len(weights())
    assert report.card.startswith("---\n")
    assert (report.url, report.commit, report.changed) == (None, None, False)


def test_into_a_folder(hub: FakeHub, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    report = push(path, "user/sam", out=tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "model.bhk": weights(),
        "config.json": (tmp_path / "out" / "config.json").read_bytes(),
        "README.md": report.card.encode(),
    }
    assert _states(report) == dict.fromkeys(MADE, "written")
    assert report.url == str(tmp_path / "out")
    assert not hub.requests
    (tmp_path / "empty").mkdir()
    push(path, "user/sam", out=tmp_path / "empty")
    with pytest.raises(WriteError, match="out is not empty; give a new or an empty one"):
        push(path, "user/sam", out=tmp_path / "out")
    with pytest.raises(WriteError, match="cannot make the folder"):
        push(path, "user/sam", out=path)


def test_a_folder_that_cannot_be_written_is_unchanged(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bhk.publishing.push.copy_into", full)
    with pytest.raises(WriteError, match="No space left on device"):
        push(path, "user/sam", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pull_request_is_opened_once(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"README.md": b"Mine.\n"})
    first = push(path, "user/sam", create_pr=True, message="Smaller\nweights")
    (request,) = hub.pull_requests("user/sam")
    assert request.title == "Smaller weights"
    assert first.pull_request == f"{hub.url}/user/sam/discussions/1"
    assert hub.files("user/sam") == {"README.md": b"Mine.\n"}
    assert hub.files("user/sam", "refs/pr/1")["model.bhk"] == weights()
    assert first.usage[-1] == 'bhk.load_into(model, "hf://user/sam@refs/pr/1")'
    second = push(path, "user/sam", create_pr=True, message="Smaller weights")
    assert (second.changed, second.commit, second.pull_request) == (False, first.commit, first.pull_request)
    path.write_bytes(weights(1))
    third = push(path, "user/sam", create_pr=True, message="Smaller weights")
    assert (third.changed, third.pull_request) == (True, first.pull_request)
    assert hub.files("user/sam", "refs/pr/1")["model.bhk"] == weights(1)
    assert len(hub.pull_requests("user/sam")) == 1
    push(path, "user/sam", create_pr=True, message="Another")
    assert len(hub.pull_requests("user/sam")) == 2


@pytest.mark.parametrize("options", [{}, {"create_pr": True}, {"revision": "v2"}])
def test_the_usage_loads_the_pushed_file(hub: FakeHub, path: Path, options: dict[str, Any]) -> None:
    for revision in ("main", "v2"):
        hub.add("user/sam", {"notes.txt": b"mine"}, revision=revision)
    _, address, _ = push(path, "user/sam", **options).usage[-1].split('"')
    with bhk.open(address) as file, bhk.open(path) as original:
        assert torch.equal(file.tensor("blocks.2.weight"), original.tensor("blocks.2.weight"))


def test_the_usage_of_a_model_of_transformers(hub: FakeHub, tmp_path: Path) -> None:
    path = _write(tmp_path / "a.bhk", weights_of_transformers())
    *imports, last = push(path, "user/sam").usage
    assert imports[0].startswith("import bhk.transformers")
    assert imports[1:] == ["from transformers import AutoModel"]
    assert last == 'model = AutoModel.from_pretrained("user/sam")'
    hub.add("user/other", {"notes.txt": b"mine"})
    last = push(path, "user/other", create_pr=True).usage[-1]
    assert last == 'model = AutoModel.from_pretrained("user/other", revision="refs/pr/1")'


def test_stale_bhk_files_are_named(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    assert not any("still holds" in hint for hint in push(path, "user/sam").warnings)
    others = [_write(tmp_path / name, weights(1)) for name in ("a.bhk", "b.bhk")]
    hints = push(others, "user/sam").warnings
    assert (
        "hf://user/sam still holds model.bhk, which is not part of this push (bhk.load uses model.bhk unless a file is named); "
        "delete it there if it is out of date"
    ) in hints
    assert any(
        "still holds a.bhk, b.bhk, which is not part of this push; delete" in hint
        for hint in push(path, "user/sam").warnings
    )


def test_stale_configuration_files_are_named(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    push(_write(tmp_path / "hf.bhk", weights_of_transformers()), "user/sam")
    hints = push(path, "user/sam").warnings
    assert any("still holds preprocessor_config.json, which transformers reads" in hint for hint in hints)


def test_a_file_that_changes_after_it_was_checked_is_not_committed(
    hub: FakeHub, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(checked: Path, **options: object) -> None:
        verify(checked)
        path.write_bytes(weights(1))

    monkeypatch.setattr("bhk.publishing.push.verify", check)
    with pytest.raises(HubError, match=r"model\.bhk changed on this machine during the upload"):
        push(path, "user/sam")
    assert "model.bhk" not in hub.files("user/sam")


def test_the_license_in_a_file_takes_precedence(tmp_path: Path) -> None:
    path = bhk_file(tmp_path / "mit.bhk", metadata={"license": "mit"})
    assert "license: mit\n" in push(path, "user/sam", card=Card(license="MIT"), dry_run=True).card
    with pytest.raises(PublicationError, match=r"model\.bhk states the license mit, but apache-2\.0 was given"):
        push(path, "user/sam", card=Card(license="apache-2.0"), dry_run=True)
    unknown = bhk_file(tmp_path / "frob.bhk", metadata={"license": "frob"})
    with pytest.raises(
        UnknownLicenseError, match=r"model\.bhk states its license: the Hub does not know the license 'frob'"
    ):
        push(unknown, "user/sam", dry_run=True)
    assert "license: mit\n" in push(unknown, "user/sam", card=Card(license="mit"), dry_run=True).card


def test_results_stay_on_the_card_until_the_file_changes(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    results = written(tmp_path / "results.json", fidelity(sha256([path])))
    first = push(path, "user/sam", card=Card(evaluation=results))
    assert "**Fidelity.**" in first.card
    again = push(path, "user/sam")
    assert (again.changed, again.card) == (False, first.card)
    assert not any("are gone" in hint for hint in again.warnings)
    path.write_bytes(weights(1))
    report = push(path, "user/sam")
    assert "**Fidelity.**" not in report.card
    assert any("the results on the card were about another file and are gone" in hint for hint in report.warnings)
    assert not any("are gone" in hint for hint in push(path, "user/sam").warnings)


def test_no_pull_request_without_changes(hub: FakeHub, path: Path) -> None:
    push(path, "user/sam")
    report = push(path, "user/sam", create_pr=True)
    assert (report.changed, report.pull_request) == (False, None)
    assert not hub.pull_requests("user/sam")


def test_a_branch(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.add("user/sam", {"a.txt": b"2"}, revision="v2")
    report = push(path, "user/sam", revision="v2")
    assert hub.files("user/sam", "v2")["model.bhk"] == weights()
    assert hub.files("user/sam") == {"a.txt": b"1"}
    assert report.url == f"{hub.url}/user/sam/tree/v2"
    with pytest.raises(HubError, match="has no revision 'v3'"):
        push(path, "user/sam", revision="v3")


def test_a_branch_with_a_slash(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.add("user/sam", {"a.txt": b"2"}, revision="try/v2")
    report = push(path, "user/sam", revision="try/v2")
    assert hub.files("user/sam", "try/v2")["model.bhk"] == weights()
    assert report.url == f"{hub.url}/user/sam/tree/try%2Fv2"
    assert report.usage[-1] == 'bhk.load_into(model, "hf://user/sam@try/v2")'


def test_gitignore_is_ignored(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {".gitignore": b"*.bhk\n"})
    assert push(path, "user/sam").changed
    assert hub.files("user/sam")["model.bhk"] == weights()


def test_a_repository_that_was_renamed(hub: FakeHub, path: Path) -> None:
    hub.add("user/new", {"a.txt": b"1"})
    hub.repositories["user/old"] = hub.repositories["user/new"]  # to which the Hub redirects
    with pytest.raises(PublicationError, match="hf://user/old has been renamed to hf://user/new; push to that"):
        push(path, "user/old")
    assert hub.files("user/new") == {"a.txt": b"1"}


def test_a_token_with_implicit_use_disabled(hub: FakeHub, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    assert push(path, "user/sam").created


@pytest.mark.parametrize("options", [{"revision": "v2"}, {"create_pr": True}])
def test_a_missing_repository_has_no_branches(hub: FakeHub, path: Path, options: dict[str, object]) -> None:
    with pytest.raises(PublicationError, match=r"hf://user/none does not exist.*no (pull|rev).*push to main first"):
        push(path, "user/none", **options)  # type: ignore[arg-type]
    assert not hub.repositories


def test_the_visibility_of_a_repository_does_not_change(hub: FakeHub, path: Path) -> None:
    hub.add("user/hidden", {"a.txt": b"1"}, private=True)
    assert any("is private and stays private" in hint for hint in push(path, "user/hidden", private=False).warnings)
    assert hub.repositories["user/hidden"].private
    hub.add("user/open", {"a.txt": b"1"})
    with pytest.raises(PublicationError, match="hf://user/open is public, but should be private"):
        push(path, "user/open", private=True)
    assert hub.files("user/open") == {"a.txt": b"1"}
    assert _sent(hub) == len(weights())


def test_commits_of_others_are_taken_into_account(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"a.txt": b"1"})
    hub.inject("commit", action=lambda: hub.add("user/sam", {"README.md": b"Theirs.\n", "b.txt": b"2"}))
    report = push(path, "user/sam")
    files = hub.files("user/sam")
    assert (files["a.txt"], files["b.txt"], files["model.bhk"]) == (b"1", b"2", weights())
    assert b"Theirs.\n" in files["README.md"]
    assert files["README.md"].decode() == report.card
    assert len(hub.commits("user/sam")) == 3
    assert _sent(hub) == len(weights())


def test_others_who_never_stop_committing(hub: FakeHub, path: Path) -> None:
    hub.add("user/sam", {"a.txt": b"0"})
    counter = iter(range(100))
    hub.inject("commit", times=-1, action=lambda: hub.add("user/sam", {"a.txt": b"%d" % next(counter)}))
    with pytest.raises(ChangedMeanwhileError, match="hf://user/sam"):
        push(path, "user/sam")
    assert hub.files("user/sam") == {"a.txt": b"%d" % (ATTEMPTS - 1)}


def test_a_damaged_file_is_never_published(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    damaged = bytearray(weights(1))
    damaged[-100] ^= 1
    with pytest.raises(UnpublishableFileError, match=r"damaged\.bhk is not an intact \.bhk file"):
        push([path, _write(tmp_path / "damaged.bhk", bytes(damaged))], "user/sam")
    with pytest.raises(ReadError):
        push(tmp_path / "none.bhk", "user/sam")
    assert not hub.requests


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"repository": "sam"}, HubError, "expected hf://user/repo"),
        ({"repository": "hf://user/sam/model.bhk"}, PublicationError, "names more than a repository"),
        ({"repository": "other.bhk"}, PublicationError, "other.bhk is a file; expected a repository, user/repo"),
        ({"repository": "hf://user/sam@v2"}, PublicationError, "names more than a repository"),
        (
            {"repository": "user/a..b", "dry_run": True},
            PublicationError,
            r"the Hub does not accept this name: .*user/a\.\.b",
        ),
        ({"create_pr": True, "revision": "v2"}, PublicationError, "pull request is made against main"),
        ({"message": " \n"}, PublicationError, "the message is empty"),
        ({"files": []}, UnpublishableFileError, "no .bhk files"),
        ({"include": "none.txt"}, UnpublishableFileError, "none.txt does not exist"),
        ({"card": Card(template="none.md")}, PublicationError, "cannot read template none.md: No such file"),
    ],
)
def test_arguments_that_do_not_fit_together(
    hub: FakeHub, path: Path, options: dict[str, object], error: type[bhk.BhkError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        push(**{"files": path, "repository": "user/sam", **options})  # type: ignore[arg-type]
    assert str(caught.value).isprintable()
    assert not hub.requests


def test_an_incomplete_template(hub: FakeHub, path: Path, tmp_path: Path) -> None:
    with pytest.raises(TemplateError):
        push(path, "user/sam", card=Card(template=_write(tmp_path / "card.md", b"{{summary}}")))
    assert not hub.requests


def test_a_template_that_is_not_text(path: Path, tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match=r"card\.md is not UTF-8 text"):
        push(path, "user/sam", card=Card(template=_write(tmp_path / "card.md", b"\xff")), dry_run=True)


def test_without_a_token_nothing_is_read(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NoTokenError, match="hf auth login"):
        push("none.bhk", "user/sam")


def test_progress_names_its_stages(hub: FakeHub, path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    push(path, "user/sam", progress=lambda *what: seen.append(what))
    assert seen[0][0] == "Verifying sam.bhk"
    assert seen[-1][0] == "Uploading"
    assert all(0 <= done <= total for _, done, total in seen)


_GATED = """---
license: other
license_name: fair-license
license_link: LICENSE
extra_gated_prompt: Do no harm.
extra_gated_fields:
  Country: country
---
# Original
"""


def _of_gated(tmp_path: Path) -> Path:
    """Return a .bhk file of a model in a copy of a gated repository."""
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / "README.md").write_text(_GATED)
    (folder / "LICENSE").write_text("The fair license.\n")
    torch.save({"layer.weight": torch.randn(64, 64)}, folder / "model.pth")
    path = bhk.convert(folder / "model.pth", tmp_path / "model.bhk").path
    assert path is not None
    return path


def test_license_and_gate_travel_with_the_weights(hub: FakeHub, tmp_path: Path) -> None:
    path = _of_gated(tmp_path)
    report = push(path, "user/small")
    files = hub.files("user/small")
    assert files["LICENSE"] == b"The fair license.\n"
    assert hub.repositories["user/small"].gated == "auto"
    stages = _stages(hub)
    assert stages.index("settings") < stages.index("preupload")  # nobody could have had the weights before
    for line in (
        "license: other",
        "license_name: fair-license",
        "extra_gated_prompt: Do no harm.",
        "  Country: country",
    ):
        assert line in report.card.splitlines()
    assert "[`fair-license`](LICENSE), also applies" in report.card
    assert not push(path, "user/small").changed


def test_a_repository_that_could_not_be_gated_stays_empty(hub: FakeHub, tmp_path: Path) -> None:
    path = _of_gated(tmp_path)
    hub.inject("settings", status=403)
    with pytest.raises(HubError):
        push(path, "user/small")
    assert set(hub.files("user/small")) == {".gitattributes"}
    push(path, "user/small")
    assert hub.repositories["user/small"].gated == "auto"


def test_an_open_repository_stays_open_with_a_warning(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("user/small", {"a.txt": b"a"})
    report = push(_of_gated(tmp_path), "user/small")
    assert hub.repositories["user/small"].gated is False
    assert any("is open, but the original asks for access" in warning for warning in report.warnings)


def test_the_gate_of_the_base_model_applies_to_its_copies(hub: FakeHub, path: Path) -> None:
    hub.add("other/original", {"model.pth": b"1"}, gated="manual")
    push(path, "user/small", card=Card(base_model="other/original"))
    assert hub.repositories["user/small"].gated == "manual"
    push(path, "user/open", card=Card(base_model="other/missing"))
    assert hub.repositories["user/open"].gated is False


def test_a_license_that_the_publisher_includes_replaces_the_text(hub: FakeHub, tmp_path: Path) -> None:
    mine = tmp_path / "LICENSE.md"
    mine.write_text("Mine")
    push(_of_gated(tmp_path), "user/small", include=mine)
    assert {"LICENSE.md"} == {name for name in hub.files("user/small") if "LICENSE" in name}


def test_another_license_than_that_of_the_original_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match="states the license fair-license, but mit was given"):
        push(_of_gated(tmp_path), "user/small", card=Card(license="mit"), dry_run=True)


def test_texts_of_several_licenses_are_not_mixed(tmp_path: Path) -> None:
    one = _of_gated(tmp_path)
    (tmp_path / "copy" / "LICENSE").write_text("Another license.\n")
    two = bhk.convert(tmp_path / "copy" / "model.pth", tmp_path / "two.bhk").path
    assert two is not None
    with pytest.raises(UnpublishableFileError, match="2 different texts of their LICENSE"):
        push([one, two], "user/small", dry_run=True)
