from __future__ import annotations

from pathlib import Path

import torch
from sam.state_dicts import shapes_of

import bhk as package
from cli.conftest import Shell


def _rows(text: str) -> list[list[str]]:
    """Return the cells of a table's rows, which are between its two rules."""
    lines = text.splitlines()
    first, last = (i for i, line in enumerate(lines) if line.startswith("──"))
    return [line.split() for line in lines[first + 1 : last]]


def test_one_row_per_tensor_and_an_exact_sum(bhk: Shell, converted: Path) -> None:
    ended = bhk("inspect", "sam.bhk")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"made with: bhk {package.__version__} · balanced · torch ")
    assert lines[1] == "source.name: sam.pth"
    assert "conversion." not in ended.out
    assert 'checkpoint.wrapper: ["model"]' in lines
    found = package.inspect(converted)
    assert [row[0] for row in _rows(ended.out)] == ["blocks.2.bias", "blocks.2.weight", "blocks.10.weight", "steps"]
    weight = _rows(ended.out)[1]
    assert weight[1:6] == ["linear", "48×50", "F32", "trajectory", "64"]
    assert weight[8] == f"{found.rows[1].bytes:,}"
    assert _rows(ended.out)[3][2] == "scalar"
    assert lines[-1].startswith(
        f"{converted.stat().st_size:,} bytes = {found.streams:,} streams + {found.header:,} header"
    )


def test_groups_sorting_and_the_first_rows(bhk: Shell, converted: Path) -> None:
    by_role = bhk("inspect", converted, "--by", "role").out
    assert [row[:3] for row in _rows(by_role)] == [
        ["bias", "bias", "1"],
        ["linear", "linear", "2"],
        ["buffer", "buffer", "1"],
    ]
    assert [row[0] for row in _rows(bhk("inspect", converted, "--by", "block").out)] == [
        "blocks.2",
        "blocks.10",
        "steps",
    ]
    rows = package.inspect(converted).rows
    for sort, key in (
        ("bytes", lambda row: -row.bytes),
        ("bits", lambda row: -row.bits),
        ("ratio", lambda row: -row.ratio),
        ("max-error", lambda row: -row.max_abs),
        ("snr", lambda row: row.snr_db or 1000),
        ("name", lambda row: row.name),
    ):
        document = bhk("inspect", converted, "--sort", sort, "--json").document
        values = [key(row) for row in sorted(rows, key=key)]
        assert [key(next(r for r in rows if r.name == row["name"])) for row in document["rows"]] == values, sort
    top = bhk("inspect", converted, "--sort", "bytes", "--top", 2)
    assert len(_rows(top.out)) == 2
    assert top.out.splitlines()[-1] == bhk("inspect", converted).out.splitlines()[-1]


def test_json_holds_everything(bhk: Shell, converted: Path) -> None:
    document = bhk("inspect", converted, "--json").document
    found = package.inspect(converted)
    assert set(document) == {
        "path", "generator", "made_with", "metadata", "model", "file_bytes", "sizes", "ratio",
        "float32_ratio", "rows", "total"
    }  # fmt: skip
    assert document["file_bytes"] == sum(document["sizes"].values()) == converted.stat().st_size
    assert document["metadata"] == found.metadata
    assert document["model"] is None
    assert document["rows"][1] == {
        "name": "blocks.2.weight",
        "layers": 1,
        "role": "linear",
        "shape": [48, 50],
        "dtype": "F32",
        "encoding": "trajectory",
        "weights": 2400,
        "dense_bytes": 9600,
        "bytes": found.rows[1].bytes,
        "windings": 64,
        "shells": found.rows[1].shells,
        "step": found.rows[1].step,
        "snr_db": found.rows[1].snr_db,
        "max_abs": found.rows[1].max_abs,
        "bits_per_weight": found.rows[1].bits,
        "ratio": found.rows[1].ratio,
    }
    assert document["rows"][0]["snr_db"] is None
    assert document["total"]["bytes"] == sum(row["bytes"] for row in document["rows"])


def test_the_model_is_shown_with_its_title(bhk: Shell, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(shape) for name, shape in shapes_of("mobile_sam").items()}, tmp_path / "m.pth")
    bhk("convert", "m.pth")
    assert bhk("inspect", "m.bhk", "--json").document["model"] == {
        "title": "MobileSAM or TinySAM",
        "family": "mobile_sam",
        "variant": "mobile_sam",
        "arguments": {},  # nothing says which of the two it is
    }
    lines = bhk("inspect", "m.bhk").out.splitlines()
    at = lines.index("model: MobileSAM or TinySAM")
    assert lines[at + 1 : at + 3] == ["model.family: mobile_sam", "model.variant: mobile_sam"]
    assert not any(line.startswith("model.arguments") for line in lines)  # the variant says it all


def test_a_model_of_no_published_size_is_shown_too(bhk: Shell, tmp_path: Path) -> None:
    torch.save({"mask_decoder.iou_token.weight": torch.zeros(4)}, tmp_path / "m.pth")
    bhk("convert", "m.pth")
    out = bhk("inspect", "m.bhk").out
    assert "model: SAM, of no published size\nmodel.family: sam\n" in out
    assert "model.variant" not in out


def test_text_of_the_file_cannot_steer_the_terminal(bhk: Shell, source: Path) -> None:
    bhk("convert", source, "--metadata", "note=\x1b[31mred\n\u202e")
    assert "note: \\x1b[31mred\\n\\u202e\n" in bhk("inspect", "sam.bhk").out
    assert bhk("inspect", "sam.bhk", "--json").document["metadata"]["note"] == "\x1b[31mred\n\u202e"


def test_an_error_is_one_line(bhk: Shell, source: Path) -> None:
    assert bhk.fails("inspect", "none.bhk") == "cannot read none.bhk: No such file or directory"
    assert bhk.fails("inspect", ".") == ". is a folder; expected a .bhk file"
    assert "not a .bhk file" in bhk.fails("inspect", "sam.pth")


def test_a_folder_means_its_file(bhk: Shell, converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pushed"
    folder.mkdir()
    (folder / "model.bhk").write_bytes(converted.read_bytes())
    (folder / "config.json").touch()
    for command in (["inspect"], ["verify"], ["diff", converted]):
        assert bhk(*command, folder).out == bhk(*command, folder / "model.bhk").out.replace(
            "pushed/model.bhk", "pushed"
        )


def test_long_metadata_is_shortened_but_in_json(bhk: Shell, source: Path) -> None:
    text = "x" * 200
    package.convert(source, source.with_name("noted.bhk"), metadata={"note": text, "short": "y"})
    lines = bhk("inspect", "noted.bhk").out.splitlines()
    assert f"note: {'x' * 160}… (200 characters; the JSON document has them all)" in lines
    assert "short: y" in lines
    assert bhk("inspect", "noted.bhk", "--json").document["metadata"]["note"] == text
