"""The fake Hub's answers to the requests of huggingface_hub."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.client import responses
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import yaml

from hub.repositories import Blob, HubFile, RefusedError, Repository, is_large

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

_DATE = "2026-01-01T00:00:00.000Z"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.\-]*")
_RELATIONS = ("adapter", "finetune", "merge", "quantized")
_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
_MODEL = rf"/api/(?:models|datasets)/{_REPOSITORY}"


@dataclass
class Call:
    """A request, with its path split into the parts of its stage."""

    method: str
    parts: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def part(self, name: str) -> str:
        return unquote(self.parts[name])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """A response whose body is a blob from `start` to `end`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Blob = field(default_factory=lambda: Blob(b""))
    start: int = 0
    end: int | None = None

    @property
    def length(self) -> int:
        return (self.body.size if self.end is None else self.end) - self.start


def as_json(value: object, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, Blob(json.dumps(value).encode()))


def refusal(status: int, code: str | None = None, message: str | None = None) -> Answer:
    answer = as_json({"error": message or responses.get(status, "")}, status)
    for name, value in (("X-Error-Code", code), ("X-Error-Message", message)):
        if value:
            answer.headers[name] = value
    return answer


def whoami(hub: FakeHub, call: Call) -> Answer:
    hub.authorize(call, write=True)
    return as_json({"type": "user", "name": "user", "orgs": [], "auth": {"type": "access_token"}})


def create(hub: FakeHub, call: Call) -> Answer:
    hub.authorize(call, write=True)
    name = f"{call.json.get('organization') or 'user'}/{call.json['name']}"
    if name in hub.repositories:
        return as_json({"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, 409)
    private = call.json.get("visibility") == "private" or call.json.get("private", False)  # before huggingface_hub 2
    repository = hub.repositories[name] = Repository(name, private=private)
    attributes = b"".join(
        b"*%s filter=lfs diff=lfs merge=lfs -text\n" % suffix for suffix in (b".bhk", b".safetensors")
    )
    repository.commit("main", {".gitattributes": HubFile(Blob(attributes), False)}, parent=None, title="initial commit")
    return as_json({"url": f"{hub.url}/{name}", "name": name, "id": name})


def settings(hub: FakeHub, call: Call) -> Answer:
    repository = hub.authorize(call, write=True)
    repository.gated = call.json.get("gated", repository.gated)
    return as_json({})


def validate_yaml(hub: FakeHub, call: Call) -> Answer:
    errors, warnings = _faults_of_card(call.json["content"])
    shown = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return as_json(shown, 400 if errors else 200)


def info(hub: FakeHub, call: Call) -> Answer:
    repository = hub.authorize(call)
    commit = repository.at(call.part("revision") if call.parts["revision"] else "main")
    listed = [_listed(name, file) for name, file in sorted(commit.files.items())]
    blobs = "blobs" in call.query
    return as_json(
        {
            "id": repository.name,
            "modelId": repository.name,
            "sha": commit.oid,
            "private": repository.private,
            "gated": repository.gated,
            "disabled": False,
            "createdAt": _DATE,
            "lastModified": _DATE,
            "tags": [],
            "siblings": [
                {"rfilename": file["path"], **({"blobId": file["oid"], "size": file["size"]} if blobs else {})}
                | ({"lfs": {**file["lfs"], "sha256": file["lfs"]["oid"]}} if blobs and "lfs" in file else {})
                for file in listed
            ],
        }
    )


def tree(hub: FakeHub, call: Call) -> Answer:
    files = hub.authorize(call).at(call.part("revision")).files
    prefix = f"{call.part('path')}/" if call.parts["path"] else ""
    found: dict[str, dict[str, Any]] = {}
    for name, file in sorted(files.items()):
        if not name.startswith(prefix):
            continue
        head, slash, _ = name[len(prefix) :].partition("/")
        if slash:
            found.setdefault(prefix + head, {"type": "directory", "path": prefix + head, "oid": "0" * 40, "size": 0})
        if not slash or call.query.get("recursive") in ("true", "True", "1"):
            found[name] = _listed(name, file)
    if prefix and not found:
        raise RefusedError(404, "EntryNotFound", f"{prefix[:-1]} does not exist")
    return as_json(list(found.values()))


def paths_info(hub: FakeHub, call: Call) -> Answer:
    files = hub.authorize(call).at(call.part("revision")).files
    wanted = [unquote(text.replace("+", " ")) for text in re.findall(r"(?:^|&)paths=([^&]*)", call.body.decode())]
    return as_json([_listed(name, files[name]) for name in wanted if name in files])


def commits(hub: FakeHub, call: Call) -> Answer:
    history = hub.authorize(call).history(call.part("revision"))
    authors = [{"user": "user"}]
    return as_json(
        [
            {"id": commit.oid, "title": commit.title, "message": commit.message, "date": _DATE, "authors": authors}
            for commit in history
        ]
    )


def refs(hub: FakeHub, call: Call) -> Answer:
    repository = hub.authorize(call)
    proposed = [request.ref for request in repository.pull_requests]
    branches = [name for name in repository.refs if name not in proposed]
    return as_json(
        {
            "branches": [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": repository.refs[name]} for name in branches
            ],
            "pullRequests": [{"name": name, "ref": name, "targetCommit": repository.refs[name]} for name in proposed],
            "converts": [],
            "tags": [],
        }
    )


def branch(hub: FakeHub, call: Call) -> Answer:
    repository, name = hub.authorize(call, write=True), call.part("revision")
    if name in repository.refs:
        raise RefusedError(409, None, f"Reference refs/heads/{name} already exists")
    repository.refs[name] = repository.at(call.json.get("startingPoint", "main")).oid
    return as_json({})


def discussions(hub: FakeHub, call: Call) -> Answer:
    repository = hub.authorize(call)
    found = [
        {
            "num": request.number,
            "title": request.title,
            "author": {"name": "user"},
            "createdAt": _DATE,
            "status": "open",
            "repo": {"name": repository.name, "type": "model"},
            "isPullRequest": True,
        }
        for request in reversed(repository.pull_requests)
    ]
    return as_json({"discussions": found, "count": len(found), "start": 0})


def preupload(hub: FakeHub, call: Call) -> Answer:
    here = hub.authorize(call, write=True).at(call.part("revision")).files
    hosted = here[".gitignore"].blob.read().decode() if ".gitignore" in here else ""
    ignored = call.json.get("gitIgnore", hosted).splitlines()
    return as_json(
        {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if is_large(file["path"], file["size"]) else "regular",
                    "shouldIgnore": any(fnmatch(file["path"], pattern) for pattern in ignored),
                    "oid": here[file["path"]].etag if file["path"] in here else None,
                }
                for file in call.json["files"]
            ]
        }
    )


def lfs_batch(hub: FakeHub, call: Call) -> Answer:
    hub.authorize(call, write=True)
    objects = []
    for wanted in call.json["objects"]:
        upload = {"actions": {"upload": {"href": hub.signed(f"upload/{wanted['oid']}")}}}
        objects.append({**wanted, **({} if wanted["oid"] in hub.blobs else upload)})
    return as_json({"transfer": "basic", "objects": objects})


def upload(hub: FakeHub, call: Call) -> Answer:
    hub.check_signature(call)
    blob = Blob(call.body)
    if blob.sha256 != call.parts["oid"]:
        raise RefusedError(400, None, "The SHA-256 you specified did not match what we received")
    hub.blobs[blob.sha256] = blob
    return Answer(headers={"ETag": f'"{blob.sha256}"'})


def commit(hub: FakeHub, call: Call) -> Answer:
    repository, revision = hub.authorize(call, write=True), call.part("revision")
    header, *operations = [json.loads(line) for line in call.body.splitlines()]
    head = repository.at(revision)
    if header["value"].get("parentCommit", head.oid) != head.oid:
        raise RefusedError(412, None, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for operation in operations:
        _apply(hub, files, operation["key"], operation["value"])
    title, message = header["value"]["summary"], header["value"]["description"]
    request = repository.propose(title) if call.query.get("create_pr") == "1" else None
    target = request.ref if request else revision
    made = repository.commit(target, files, parent=head.oid, title=title, message=message)
    where = f"{hub.url}/{repository.name}"
    proposal = {"pullRequestUrl": f"{where}/discussions/{request.number}"} if request else {}
    return as_json({"success": True, "commitOid": made.oid, "commitUrl": f"{where}/commit/{made.oid}", **proposal})


def resolve(hub: FakeHub, call: Call) -> Answer:
    repository = hub.authorize(call, content=True)
    commit = repository.at(call.part("revision"))
    name = call.part("path")
    if name not in commit.files:
        answer = refusal(404, "EntryNotFound", f"{name} does not exist")
        answer.headers["X-Repo-Commit"] = commit.oid
        return answer
    file = commit.files[name]
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    if not file.large:
        return _ranged(hub, call, file.blob, headers)
    linked = {"X-Linked-Size": str(file.blob.size), "X-Linked-ETag": f'"{file.etag}"'}
    location = {"Location": hub.signed(f"blob/{file.blob.sha256}")}
    return Answer(302, headers | linked | location, Blob(b"Found. Redirecting"))


def blob(hub: FakeHub, call: Call) -> Answer:
    hub.check_signature(call)
    stored = hub.blobs[call.parts["oid"]]
    return _ranged(hub, call, stored, {"ETag": f'"{stored.sha256[:32]}"', "Accept-Ranges": "bytes"})


def _ranged(hub: FakeHub, call: Call, blob: Blob, headers: dict[str, str]) -> Answer:
    """Answer with a blob or with the requested range of it."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("range", ""))
    if not found or not hub.ranges:
        return Answer(200, headers, blob)
    start, end = int(found[1]), min(int(found[2] or blob.size - 1) + 1, blob.size)
    if start >= end:
        return Answer(416, {**headers, "Content-Range": f"bytes */{blob.size}"})
    return Answer(206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{blob.size}"}, blob, start, end)


def _listed(name: str, file: HubFile) -> dict[str, Any]:
    """Return a file as in the Hub's listings."""
    entry = {"type": "file", "path": name, "oid": file.oid, "size": file.blob.size}
    lfs = {"oid": file.blob.sha256, "size": file.blob.size, "pointerSize": 134}
    return {**entry, "lfs": lfs} if file.large else entry


def _apply(hub: FakeHub, files: dict[str, HubFile], key: str, value: dict[str, Any]) -> None:
    """Carry out one operation of a commit."""
    path = value["path"]
    if key == "file":
        files[path] = HubFile(Blob(base64.b64decode(value["content"])), False)
    elif key == "lfsFile":
        if value["oid"] not in hub.blobs:
            raise RefusedError(400, None, f"LFS pointer of {path} pointed to a file that does not exist")
        files[path] = HubFile(hub.blobs[value["oid"]], True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise RefusedError(404, "EntryNotFound", "A file with this name doesn't exist")
    else:
        raise RefusedError(400, None, f"unknown operation {key}")


def _faults_of_card(text: str) -> tuple[list[str], list[str]]:
    """Return the Hub's errors and warnings about a card."""
    found = re.match(r"---\r?\n(.*?)\r?\n---(?:\r?\n|$)", text, re.DOTALL)
    if not found:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"invalid YAML: {error}"], []
    if not isinstance(data, dict):
        return ["the metadata must be a mapping"], []
    errors = []
    if not _LICENSE.fullmatch(data.get("license", "mit")):
        errors.append('"license" must be one of the known identifiers')
    if "license_name" in data and data.get("license") != "other":
        errors.append('"license_name" needs "license: other"')
    if data.get("base_model_relation", "quantized") not in _RELATIONS:
        errors.append(f'"base_model_relation" must be one of {", ".join(_RELATIONS)}')
    bases = data.get("base_model", [])
    if not all(re.fullmatch(r"[\w.\-]+/[\w.\-]+", name) for name in ([bases] if isinstance(bases, str) else bases)):
        errors.append('"base_model" with a value that is no repository')
    if not all(isinstance(tag, str) for tag in data.get("tags", [])):
        errors.append('"tags" must be strings')
    return errors, []


_ROUTES: tuple[tuple[str, str, str, Callable[[FakeHub, Call], Answer]], ...] = (
    ("whoami", "GET", r"/api/whoami-v2", whoami),
    ("create", "POST", r"/api/repos/create", create),
    ("yaml", "POST", r"/api/validate-yaml", validate_yaml),
    ("settings", "PUT", rf"{_MODEL}/settings", settings),
    ("tree", "GET", rf"{_MODEL}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", tree),
    ("paths-info", "POST", rf"{_MODEL}/paths-info/(?P<revision>[^/]+)", paths_info),
    ("commits", "GET", rf"{_MODEL}/commits/(?P<revision>[^/]+)", commits),
    ("refs", "GET", rf"{_MODEL}/refs", refs),
    ("branch", "POST", rf"{_MODEL}/branch/(?P<revision>[^/]+)", branch),
    ("discussions", "GET", rf"{_MODEL}/discussions", discussions),
    ("preupload", "POST", rf"{_MODEL}/preupload/(?P<revision>[^/]+)", preupload),
    ("commit", "POST", rf"{_MODEL}/commit/(?P<revision>[^/]+)", commit),
    ("info", "GET", rf"{_MODEL}(?:/revision/(?P<revision>[^/]+))?", info),
    ("lfs-batch", "POST", rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", lfs_batch),
    ("resolve", "GET HEAD", rf"/(?:datasets/)?{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", resolve),
    ("upload", "PUT", r"/upload/(?P<oid>[0-9a-f]{64})", upload),
    ("blob", "GET HEAD", r"/blob/(?P<oid>[0-9a-f]{64})", blob),
)


def route(method: str, path: str) -> tuple[str, dict[str, str], Callable[[FakeHub, Call], Answer]] | None:
    """Return the stage of a request, the parts of its path, and the function that answers it."""
    for stage, methods, pattern, answer in _ROUTES:
        found = re.fullmatch(pattern, path)
        if found and method in methods.split():
            return stage, found.groupdict(), answer
    return None
