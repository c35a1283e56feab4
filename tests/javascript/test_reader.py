"""format_spec/js/reader.mjs by itself: addresses, the command line, and browsers.

What it makes of all kinds of files is compared with the other readers in tests/format_spec/test_reference_reader.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bhk
from javascript.browser import needs_browser
from javascript.serving import Served, served
from javascript.third_reader import NODE, ROOT

JS = ROOT / "format_spec" / "js"
VECTORS = ROOT / "format_spec" / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))

needs_node = pytest.mark.skipif(NODE is None, reason="needs Node")


@pytest.fixture
def server() -> Iterator[Served]:
    with served(ROOT) as server:
        yield server


def node(script: str, *arguments: object) -> Any:
    """Run a script with the reader's exports as `reader`, and return the JSON that it prints."""
    start = 'import * as reader from "./format_spec/js/reader.mjs"; const [argument] = process.argv.slice(1);\n'
    command = [str(NODE), "--input-type=module", "--eval", start + script, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_it_imports_nothing_from_elsewhere() -> None:
    for path in JS.glob("*.mjs"):
        imports = set(re.findall(r'^import .* from "(.*)";$', path.read_text(encoding="utf-8"), re.MULTILINE))
        others = {name for name in imports if not (JS / name).is_file()}
        assert others == ({"node:fs"} if path.name == "validate.mjs" else set())


@needs_node
def test_an_address_is_read_in_parts(server: Served, tmp_path: Path) -> None:
    script = """
        const file = await reader.open(argument);
        const { shape, data } = await file.tensor("weight");
        console.log(JSON.stringify({ names: file.names, length: file.length, shape, data: reader.hexadecimal(data) }));
    """
    found = node(script, f"{server.url}/format_spec/vectors/good/example.bhk")
    expected = json.loads((VECTORS / "good/example.json").read_text(encoding="utf-8"))
    assert found["names"] == list(expected)
    assert found["length"] == (VECTORS / "good/example.bhk").stat().st_size
    assert found["data"] == expected["weight"]["data"]
    assert [wanted for _, wanted in server.asked] == ["bytes=0-65535"]


@needs_node
def test_padding_is_checked_with_the_stream_behind_it(server: Served) -> None:
    script = """
        const file = await reader.open(argument);
        const verdicts = [];
        for (const name of file.names) verdicts.push(await file.tensor(name).then(() => "good", ({ rule }) => rule));
        console.log(JSON.stringify(verdicts));
    """
    found = node(script, f"{server.url}/format_spec/vectors/bad/D1_last_byte_of_a_gap.bhk")
    assert found.count("D1") == 1
    assert set(found) == {"good", "D1"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of which the first request does not hold all."""
    folder = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    torch.save({name: torch.randn(300, 400) for name in ("a", "b", "c")}, folder / "large.pth")
    path = bhk.convert(folder / "large.pth", threads=1).path
    assert path is not None
    return path


@needs_node
def test_only_what_a_tensor_needs_is_fetched(large: Path) -> None:
    with served(large.parent) as server:
        script = 'console.log(JSON.stringify((await (await reader.open(argument)).tensor("b")).shape))'
        assert node(script, f"{server.url}/large.bhk") == [300, 400]
    with bhk.open(large) as file:
        ends = [(stream.offset, stream.offset + stream.stored - 1) for stream in file.layers[1].streams]
    assert ends[-1][1] > 65536  # the first request does not hold it
    expected = ["bytes=0-65535", *(f"bytes={first}-{last}" for first, last in ends if last >= 65536)]
    assert [wanted for _, wanted in server.asked] == expected


@needs_node
def test_a_server_that_hides_the_length_is_asked_for_one_byte_more(large: Path, tmp_path: Path) -> None:
    short, long = (VECTORS / "good/example.bhk").read_bytes(), large.read_bytes()
    files = {"short": short, "long": long, "longer": long + b"0", "cut": long[:-1], "other": bytes(70_000)}
    script = """
        const answer = (address) => reader.open(address).then((file) => file.length, (error) => error.message);
        console.log(JSON.stringify(await Promise.all(JSON.parse(argument).map(answer))));
    """
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with served(tmp_path) as server:
        server.lengths = False
        answers = node(script, json.dumps([f"{server.url}/{name}" for name in files]))
    found = dict(zip(files, answers, strict=True))
    assert (found["short"], found["long"]) == (len(short), len(long))
    for name in ("longer", "cut", "other"):
        assert "does not tell how long the file is" in found[name] or "answered 416" in found[name]


@needs_node
@pytest.mark.parametrize(
    ("name", "ranges", "message"),
    [
        ("good/example.bhk", False, "does not send parts"),
        ("good/no_such_file.bhk", True, "answered 404"),
        ("bad/P1_empty.bhk", True, "P1: the file has 0 bytes"),
    ],
)
def test_what_an_address_may_answer(server: Served, name: str, ranges: bool, message: str) -> None:
    server.ranges = ranges
    script = "console.log(JSON.stringify(await reader.open(argument).then(() => null, (error) => error.message)))"
    assert message in node(script, f"{server.url}/format_spec/vectors/{name}")


@needs_node
def test_names_that_are_properties_of_objects_are_names() -> None:
    script = """
        const file = await reader.open(argument);
        console.log(JSON.stringify(["constructor", "__proto__"].map((name) => {
          try { return file.layer(name).name; } catch (error) { return error.message; }
        })));
    """
    with served(VECTORS) as server:
        found = node(script, f"{server.url}/good/example.bhk")
    assert found == ['the file has no tensor "constructor"', 'the file has no tensor "__proto__"']


@needs_node
def test_command_line_prints_a_line_for_each_file() -> None:
    names = ["good/example.bhk", "bad/D4_packed.bhk", "bad/no_such\nfile.bhk"]
    command = [str(NODE), JS / "validate.mjs", *(VECTORS / name for name in names)]
    run = subprocess.run(command, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    assert run.returncode == 1
    assert len(lines) == 3
    assert lines[0].endswith("example.bhk: sound")
    assert "D4_packed.bhk: D4: " in lines[1]
    assert "no_such\\u{a}file" in lines[2]


@needs_browser
def test_a_browser_gives_the_verdict_of_every_vector(server: Served, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{server.url}/tests/javascript/blank.html")
    script = """async ([root, names]) => {
        const { judge } = await import(`${root}/tests/javascript/judge.mjs`);
        return Promise.all(names.map(async (name) => judge(await (await fetch(`${root}/format_spec/vectors/${name}`)).blob())));
    }"""
    found = page.evaluate(script, [server.url, list(MANIFEST)])
    page.close()
    for (name, entry), result in zip(MANIFEST.items(), found, strict=True):
        if entry["verdict"] != "good":
            assert result == {"rule": entry["verdict"]}, name
            continue
        expected = json.loads((VECTORS / name).with_suffix(".json").read_text(encoding="utf-8"))
        assert dict(result["tensors"]) == expected, name
