from __future__ import annotations

import pytest

from cli.conftest import Shell


@pytest.fixture
def shell(bhk: Shell, source: object) -> Shell:
    """Runs command lines beside sam.pth, which is not a Segment Anything model."""
    return bhk


def test_a_table_of_presets(shell: Shell) -> None:
    ended = shell("compare", "sam.pth", "--presets", "small, 30")
    assert (ended.status, ended.err) == (0, "")
    head, _, small, finer, meaning, about = ended.out.splitlines()
    assert head.split()[:3] == ["quality", "size", "ratio"]
    assert "IoU" not in head
    assert small.startswith("small ")
    assert finer.startswith("30 dB ")
    assert meaning == "lowest: SNR of the worst tensor"
    assert about.startswith("masks were not compared: sam.pth: bhk cannot build this model")
    assert [path.name for path in shell.folder.iterdir()] == ["sam.pth"]


def test_json_on_stdout_and_in_a_file(shell: Shell) -> None:
    args = ("compare", "sam.pth", "--presets", "small", "--out", "out.json", "--json")
    document = shell(*args).document
    assert (document["format"], document["protocol"]) == ("bhk-evaluation", "comparison")
    (choice,) = document["choices"]
    assert (choice["name"], choice["points"]) == ("small", None)
    assert choice["ratio"] == choice["source_bytes"] / choice["bytes"]
    assert (shell.folder / "out.json").stat().st_size > 100
    assert shell.fails(*args) == "out.json exists; use --force to overwrite it"


def test_mistakes(shell: Shell) -> None:
    assert shell.fails("compare", "sam.pth", "--presets", "tiny").startswith("unknown preset 'tiny'")
    assert "of nan dB was asked for" in shell.fails("compare", "sam.pth", "--presets", "balanced,nan")
    assert shell.fails("compare", "sam.pth", "--plot", "a.gif").startswith("a.gif: unknown suffix")
    assert shell("compare", "sam.pth", "--limit", "0").status == 2
