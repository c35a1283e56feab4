from __future__ import annotations

from pathlib import Path

from cli.conftest import Shell


def test_it_names_the_page(bhk: Shell, converted: Path) -> None:
    ended = bhk("report", "sam.bhk", "--threads", "1")
    assert (ended.status, ended.err) == (0, "")
    size = (bhk.folder / "sam.html").stat().st_size
    assert ended.out.startswith(f"sam.html: {size / 1000:.3g} kB in ")
    document = bhk("report", "sam.bhk", "-o", "b.html", "--against", "sam.pth", "--threads", "1", "--json").document
    assert (document["path"], document["bytes"]) == ("b.html", (bhk.folder / "b.html").stat().st_size)
    assert document["seconds"] > 0


def test_an_error_is_one_line(bhk: Shell, converted: Path) -> None:
    assert "give --against, the checkpoint that the file" in bhk.fails("report", "sam.bhk", "--images", ".")
    (bhk.folder / "sam.html").write_text("mine")
    assert bhk.fails("report", "sam.bhk") == "sam.html exists; use --force to overwrite it"
    assert (bhk.folder / "sam.html").read_text() == "mine"
