from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("tomllib")  # Python 3.11

from tools import release

_PROJECT = '[project]\nname = "bhk"\n'
_ADDRESS = '[project.urls]\nRepository = "https://example.org/bhk"\n'


def _git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def _commit(folder: Path) -> None:
    _git(folder, "add", ".")
    _git(folder, "commit", "--allow-empty", "--message", "A change")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is ready for a release."""
    (tmp_path / "pyproject.toml").write_text(_PROJECT + _ADDRESS)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 - 2026-11-28\n")
    (tmp_path / "bhk").mkdir()
    (tmp_path / "bhk" / "version.py").write_text('"""The version."""\n\n__version__ = "1.2.3"\n')
    _git(tmp_path, "init")
    _commit(tmp_path)
    return tmp_path


def test_a_project_that_is_ready(project: Path) -> None:
    assert release.version(project) == "1.2.3"
    assert release.faults(project) == []
    _git(project, "tag", "v1.2.3")  # the workflow runs at the tag
    assert release.faults(project) == []


def test_a_project_needs_an_address(project: Path) -> None:
    (project / "pyproject.toml").write_text(_PROJECT)
    _commit(project)
    assert release.faults(project) == [
        "pyproject.toml names no address; add [project.urls] with Repository, the project's public address"
    ]


def test_changes_are_committed_before_a_release(project: Path) -> None:
    (project / "new.py").touch()
    assert release.faults(project) == ["the work tree has changes; commit them"]


def test_a_version_is_released_once(project: Path) -> None:
    _git(project, "tag", "v1.2.3")
    _commit(project)
    assert release.faults(project) == ["version 1.2.3 is tagged at another commit; raise it in bhk/version.py"]


def test_the_changelog_dates_the_version(project: Path) -> None:
    (project / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 - Unreleased\n")
    _commit(project)
    assert release.faults(project) == ["CHANGELOG.md has no date for version 1.2.3; write `## 1.2.3 - YYYY-MM-DD`"]


def test_nothing_is_built_where_something_is_missing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pyproject.toml").write_text(_PROJECT)
    monkeypatch.setattr(release, "ROOT", project)
    with pytest.raises(SystemExit, match=r"error: pyproject.toml names no address.*\nerror: the work tree has changes"):
        release.main()
    assert not (project / "dist").exists()


def test_two_builds_of_a_wheel_are_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = iter([b"one", b"two"])

    def build_commit(root: Path, out: Path) -> None:
        out.mkdir(exist_ok=True)
        (out / "bhk-1.2.3.tar.gz").touch()
        (out / "bhk-1.2.3-py3-none-any.whl").write_bytes(next(builds))

    monkeypatch.setattr(release, "_build_commit", build_commit)
    with pytest.raises(SystemExit, match=r"error: two builds of bhk-1.2.3-py3-none-any.whl differ"):
        release.build(tmp_path, tmp_path / "dist")


def test_an_archive_does_not_depend_on_who_makes_it(tmp_path: Path) -> None:
    made = []
    for name, time in (("one", 1_000_000_000), ("two", 1_100_000_000)):
        folder = tmp_path / name / "bhk-1.2.3"
        folder.mkdir(parents=True)
        for file in sorted("ab", reverse=name == "two"):
            (folder / file).write_text(file * 1000)
            os.utime(folder / file, (time + 0.5, time + 0.5))
        archive = tmp_path / name / "bhk-1.2.3.tar.gz"
        with tarfile.open(archive, "w:gz") as files:
            files.add(folder, "bhk-1.2.3")
        release._settle(archive, 1_200_000_000)
        with tarfile.open(archive) as files:
            assert {(member.mtime, member.uid, member.uname) for member in files} == {(1_200_000_000, 0, "")}
            assert files.extractfile("bhk-1.2.3/a").read() == b"a" * 1000  # type: ignore[union-attr]
        made.append(archive.read_bytes())
    assert made[0] == made[1]


def test_another_machine_has_another_umask_and_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TZ", raising=False)
    before = os.umask(0o027)
    try:
        with release._elsewhere():
            assert (os.environ["TZ"], os.umask(0o077)) == ("Asia/Kolkata", 0o077)
        assert "TZ" not in os.environ
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
