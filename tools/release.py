"""`make release`: build what is published, try it as a user would, and say what is left to do. Uploads nothing.

Stops before it builds anything if the project is not ready: no public address, changes that are not committed, a version that
is tagged elsewhere or that the changelog calls unreleased. Needs the packages build, twine and cyclonedx-bom, and no torch:
the wheel is tried in a virtual environment of its own, with all its dependencies.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo" / "demo_sam.safetensors"
# Without torch, a .bhk file is read with these.
LIGHT = ("numpy", "zstandard", "msgspec", "typer")
# Tests of the source distribution that need little beside the wheel.
TESTS = ("tests/container", "tests/file", "tests/format_spec")
TEST_PACKAGES = ("pytest", "hypothesis", "jsonschema")


def version(root: Path) -> str:
    """Return the version of the package, without importing it."""
    return str(ast.literal_eval((root / "bhk" / "version.py").read_text("utf-8").partition("__version__ = ")[2]))


def faults(root: Path) -> list[str]:
    """Return what has to be done before a release; nothing if the project is ready."""
    found, release = [], version(root)
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    if "Repository" not in project.get("urls", {}):
        found.append(
            "pyproject.toml names no address; add [project.urls] with Repository, the project's public address"
        )
    if _git(root, "status", "--porcelain"):
        found.append("the work tree has changes; commit them")
    if _git(root, "tag", "--list", f"v{release}") and f"v{release}" not in _git(root, "tag", "--points-at").split():
        found.append(f"version {release} is tagged at another commit; raise it in bhk/version.py")
    if not re.search(
        rf"^## {re.escape(release)} - \d{{4}}-\d\d-\d\d$", (root / "CHANGELOG.md").read_text("utf-8"), re.M
    ):
        found.append(f"CHANGELOG.md has no date for version {release}; write `## {release} - YYYY-MM-DD`")
    return found


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """Build the source distribution and, from it, the wheel; check their metadata, and return their paths.

    A second build, in another folder, time zone and umask, gives the same files, byte for byte, so that others can build them
    and compare. The packages that build them, which `python -m build` installs, have to be the same.
    """
    shutil.rmtree(out, ignore_errors=True)
    _build_commit(root, out)
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder)
        with _elsewhere():
            _build_commit(root, again)
        for built in (source, wheel):
            if built.read_bytes() != (again / built.name).read_bytes():
                raise SystemExit(f"error: two builds of {built.name} differ")
    _run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
    return source, wheel


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Work as on another machine, with another umask and time zone."""
    zone, umask = os.environ.get("TZ"), os.umask(0o077)
    os.environ["TZ"] = "Asia/Kolkata"
    try:
        yield
    finally:
        os.umask(umask)
        del os.environ["TZ"]
        os.environ |= {"TZ": zone} if zone is not None else {}


def _build_commit(root: Path, out: Path) -> None:
    """Build the last commit. The files' times and modes are those of the commit, whatever the clone's are."""
    time = _git(root, "log", "-1", "--format=%ct")
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "commit.tar")
        _git(root, "-c", "tar.umask=0022", "-c", "core.autocrlf=false", "archive", "--output", str(archive), "HEAD")
        with tarfile.open(archive) as files:
            files.extractall(Path(folder, "commit"), filter="data")
        environment = os.environ | {"SOURCE_DATE_EPOCH": time}
        _run(sys.executable, "-m", "build", "--outdir", out, Path(folder, "commit"), environment=environment)
    for source in out.glob("*.tar.gz"):
        _settle(source, int(time))


def _settle(source: Path, time: int) -> None:
    """Give the members of an archive one time and no owner, in the order of their names."""
    with tarfile.open(source) as archive:
        members = sorted(archive.getmembers(), key=lambda member: member.name)
        contents = [found.read() if (found := archive.extractfile(member)) else b"" for member in members]
    with (
        source.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=time) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for member, content in zip(members, contents, strict=True):
            settled = member.replace(mtime=time, uid=0, gid=0, uname="", gname="")
            settled.pax_headers = {}  # times again
            archive.addfile(settled, io.BytesIO(content))


def try_wheel(wheel: Path, release: str, folder: Path) -> Path:
    """Install the wheel with its dependencies, convert the demo model and read it; return the environment's Python."""
    python = _environment(folder / "venv", wheel)
    bhk = python.with_name("bhk")
    said = subprocess.run([bhk, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if said != f"bhk {release}":
        raise SystemExit(f"error: the wheel says {said!r}; expected bhk {release}")
    file = folder / "demo.bhk"
    _run(bhk, "convert", DEMO, "-o", file, cwd=folder)
    _run(bhk, "verify", file, "--against", DEMO, cwd=folder)
    _run(python, "-c", "import bhk.nn, bhk.kernels", cwd=folder)
    light = _environment(folder / "light", *LIGHT)
    _pip(light, "--no-deps", wheel)
    _run(light.with_name("bhk"), "verify", file, cwd=folder)
    return python


def list_parts(python: Path, out: Path) -> None:
    """Write which packages an installation of the wheel brings, in CycloneDX's format: a bill of materials."""
    command = ("environment", python, "--output-reproducible", "--validate", "--output-file", out)
    _run(sys.executable, "-m", "cyclonedx_py", *command)


def try_source(source: Path, python: Path, folder: Path) -> None:
    """Unpack the source distribution and run some of its tests there."""
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    _pip(python, *TEST_PACKAGES)
    _run(python, "-m", "pytest", *TESTS, cwd=folder / source.name.removesuffix(".tar.gz"))


def _environment(folder: Path, *packages: str | Path) -> Path:
    """Make a virtual environment with packages, and return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    _pip(python, *packages)
    return python


def _pip(python: Path, *packages: str | Path) -> None:
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)


def _run(*command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> None:
    print(f"\n$ {' '.join(map(str, command))}", flush=True)
    subprocess.run(command, cwd=cwd, check=True, env=environment, umask=0o022)


def main() -> None:
    found = faults(ROOT)
    if found:
        raise SystemExit("\n".join(f"error: {fault}" for fault in found))
    release = version(ROOT)
    source, wheel = build(ROOT, ROOT / "dist")
    with tempfile.TemporaryDirectory() as folder:
        python = try_wheel(wheel, release, Path(folder))
        list_parts(python, ROOT / "sbom.cdx.json")
        try_source(source, python, Path(folder))
    print(
        f"\ndist/ holds bhk {release}, ready to publish, and sbom.cdx.json names the packages it was tried with. What is left:"
    )
    print(
        f"  git tag v{release} && git push origin v{release}     # the workflow release.yml then builds and uploads it"
    )
    print("  python -m twine upload dist/*       # or by hand")


if __name__ == "__main__":
    main()
