from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bhk.container.errors import FormatError
from bhk.hub.upload import LocalFile
from bhk.publishing.repository import UnpublishableFileError, repository_files, weight_files
from publishing.weights import weights, weights_of_transformers


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def _content(files: tuple[LocalFile, ...], name: str) -> bytes:
    (content,) = (file.content for file in files if file.name == name)
    assert isinstance(content, bytes)
    return content


def test_a_single_file_becomes_model_bhk() -> None:
    assert weight_files(["here/sam-hq.bhk"]) == {"model.bhk": Path("here/sam-hq.bhk")}


def test_several_files_keep_their_names() -> None:
    assert weight_files(["b/fine.bhk", "a/small.bhk"]) == {
        "fine.bhk": Path("b/fine.bhk"),
        "small.bhk": Path("a/small.bhk"),
    }


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/sam.bhk", "b/sam.bhk"], "b/sam.bhk: another file of the repository has this name"),
        (["a/sam.bhk", "b/SAM.bhk"], "b/SAM.bhk: another file of the repository has this name"),
        (["a.bhk", "b.bin"], r"b\.bin does not end in \.bhk, and several files keep their names"),
        (["a.bhk", "b\n.bhk"], "the Hub does not accept this file name"),
        (["a.bhk", "b\\c.bhk"], "the Hub does not accept this file name"),
        (["a.bhk", os.fsdecode(b"\xff.bhk")], "the Hub does not accept this file name"),
        (["a.bhk", ".git.bhk"], "the Hub does not accept this file name"),
        (["a@1.bhk", "b.bhk"], "hf:// addresses use @ for revisions"),
    ],
)
def test_names_that_several_files_cannot_have(paths: list[str], message: str) -> None:
    with pytest.raises(UnpublishableFileError, match=message) as caught:
        weight_files(paths)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("include", [(), ("merges.txt",)])
def test_the_tokenizer_beside_a_model_of_transformers_goes_with_it(tmp_path: Path, include: tuple[str, ...]) -> None:
    path = _write(tmp_path / "sam.bhk", weights_of_transformers())
    tokenizer = [_write(tmp_path / name, b"{}") for name in ("vocab.json", "merges.txt")]
    found = {file.name: file.content for file in repository_files({"model.bhk": path}, [tmp_path / n for n in include])}
    assert {name: found[name] for name in ("vocab.json", "merges.txt")} == {file.name: file for file in tokenizer}
    _write(tmp_path / "sam.bhk", weights())  # no model of transformers, so they are those of another model
    assert "vocab.json" not in {file.name for file in repository_files({"model.bhk": path})}


def test_a_repository_holds_the_file_and_its_configuration(tmp_path: Path) -> None:
    path = _write(tmp_path / "sam.bhk", weights())
    weight, config = repository_files({"model.bhk": path})
    assert (weight.name, weight.content) == ("model.bhk", path)
    assert weight.bytes == len(weights())
    assert config.name == "config.json"
    assert json.loads(_content((config,), "config.json"))["quantization_config"]["file"] == "model.bhk"
    assert config.bytes == len(_content((config,), "config.json"))


def test_a_model_of_transformers_brings_all_its_configuration_files(tmp_path: Path) -> None:
    files = repository_files({"model.bhk": _write(tmp_path / "a.bhk", weights_of_transformers())})
    assert [file.name for file in files] == ["model.bhk", "config.json", "preprocessor_config.json"]
    assert json.loads(_content(files, "config.json"))["model_type"] == "sam"
    assert _content(files, "preprocessor_config.json") == b'{\n  "size": {\n    "longest_edge": 1024\n  }\n}\n'


def test_the_first_of_several_files_brings_the_configuration(tmp_path: Path) -> None:
    first = _write(tmp_path / "first.bhk", weights_of_transformers())
    second = _write(tmp_path / "second.bhk", weights())
    files = repository_files({"first.bhk": first, "second.bhk": second})
    assert [file.name for file in files] == ["first.bhk", "second.bhk", "config.json", "preprocessor_config.json"]
    assert json.loads(_content(files, "config.json"))["quantization_config"]["file"] == "first.bhk"


def test_files_to_include_keep_their_base_names(tmp_path: Path) -> None:
    path = _write(tmp_path / "sam.bhk", weights())
    license, tokens = _write(tmp_path / "x" / "LICENSE", b"text"), _write(tmp_path / "tokenizer.json", b"{}")
    files = repository_files({"model.bhk": path}, [license, str(tokens)])
    assert [(file.name, file.content) for file in files[-2:]] == [("LICENSE", license), ("tokenizer.json", tokens)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["README.md"], "README.md is generated from the .bhk file; give a template for the text"),
        (["config.json"], "config.json is generated from the .bhk file; leave it out"),
        (["preprocessor_config.json"], "is generated from the .bhk file"),
        (["readme.MD"], "another file of the repository has this name"),
        (["model.BHK"], "another file of the repository has this name"),
        (["LICENSE", "x/License"], "x/License: another file of the repository has this name"),
        (["other.bhk"], "list it with the other .bhk files, so that it is"),
        ([".gitattributes"], "the Hub does not accept this file name"),
        (["none.txt"], "none.txt does not exist"),
        (["empty.txt"], "empty.txt is empty; leave it out"),
        (["folder"], "folder is a folder; give its files"),
        (["pipe"], "pipe is not a file"),
        ([""], "the Hub does not accept this file name"),
    ],
)
def test_files_that_cannot_be_included(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _write(Path("sam.bhk"), weights())
    for name in ("README.md", "config.json", "LICENSE", "x/License", "other.bhk", ".gitattributes"):
        _write(Path(name), b"text")
    Path("empty.txt").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(UnpublishableFileError, match=message):
        repository_files({"model.bhk": path}, names)


def test_a_file_that_is_not_bhk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        repository_files({"model.bhk": _write(tmp_path / "a.bhk", b"nothing")})
