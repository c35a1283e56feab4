"""The page in docs/viewer/ (promise 3 of SECURITY.md): what it computes, in Node, and how it behaves in Chromium."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from container.memory import with_text
from javascript.browser import WAIT_MS, launched, needs_browser
from javascript.serving import Served, served
from javascript.third_reader import NODE, ROOT

import bhk
from bhk.reports.layers import sketch
from bhk.reports.page_data import logarithmic
from tools.viewer import __main__ as viewer

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e.weight"
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node")


# --------------------------------------------------------------------------------------------------------- the file


def test_the_page_is_up_to_date_and_self_contained() -> None:
    text = viewer.PAGE.read_text(encoding="utf-8")
    assert text == viewer.page()
    assert len(text) < 200_000
    addresses = set(re.findall(r"https?://([\w.]+)", text))
    assert addresses <= {"www.w3.org", "huggingface.co", "example.org", "localhost", "127.0.0.1"}
    assert not re.search(
        r"\bsrc=|\bhref=\"(?!#)|\bstyle=|\bon\w+=\"|innerHTML|outerHTML|insertAdjacentHTML|\beval\(", text
    )


def test_check_names_the_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "PAGE", tmp_path / "viewer" / "index.html")
    monkeypatch.setattr(sys, "argv", ["viewer", "--check"])
    with pytest.raises(SystemExit, match=r"docs/viewer/index\.html is stale"):
        viewer.main()
    monkeypatch.setattr(sys, "argv", ["viewer"])
    viewer.main()
    monkeypatch.setattr(sys, "argv", ["viewer", "--check"])
    viewer.main()


def node(script: str, *arguments: object) -> Any:
    command = [str(NODE), "--input-type=module", "--eval", script, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@needs_node
def test_addresses() -> None:
    hub = "https://huggingface.co/user/repo/resolve"
    expected = {
        "user/repo": f"{hub}/main/model.bhk",
        "hf://user/repo": f"{hub}/main/model.bhk",
        " user/repo/some/b.bhk ": f"{hub}/main/some/b.bhk",
        "user/repo/some": f"{hub}/main/some/model.bhk",
        "user/repo/b c.bhk@refs/pr/1": f"{hub}/refs%2Fpr%2F1/b%20c.bhk",
        "https://huggingface.co/user/repo": f"{hub}/main/model.bhk",
        "https://huggingface.co/user/repo/blob/v2/b.bhk": f"{hub}/v2/b.bhk",
        "https://hf.co/user/repo/resolve/refs%2Fpr%2F1/b.bhk?download=true": f"{hub}/refs%2Fpr%2F1/b.bhk",
        "https://example.org/a%20b.bhk?x=1": "https://example.org/a%20b.bhk?x=1",
        "http://localhost:8000/a.bhk": "http://localhost:8000/a.bhk",
        "http://example.org/a.bhk": None,
        "javascript:alert(1)": None,
        "model.bhk": None,
        "": None,
    }
    script = """
        import { addressOf } from "./tools/viewer/address.mjs";
        const attempt = (text) => { try { return addressOf(text); } catch { return null; } };
        console.log(JSON.stringify(JSON.parse(process.argv[1]).map(attempt)));
    """
    assert node(script, json.dumps(list(expected))) == list(expected.values())


# ------------------------------------------------------------------------------------------------------- the drawing


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with odd rows, outliers, flat pairs, zeros, exact tensors of many types, no weights, and a hostile name."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    heavy = normal(64, 512)
    heavy.view(-1)[::999] *= 40
    sparse = normal(60, 80)
    sparse[torch.rand(60, 80, generator=generator) < 0.6] = 0
    every = torch.arange(256, dtype=torch.uint8)
    wide = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    state = {
        "odd.weight": normal(300, 301),
        "heavy.weight": heavy,
        "conv.weight": normal(31, 7, 3, 3),
        "sparse.weight": sparse,
        HOSTILE: normal(40, 40),
        "half.weight": normal(50, 50).half(),
        "norm.weight": torch.ones(64),
        "steps": torch.tensor(-7),
        "none.weight": torch.zeros(0, 4),
        "f16": wide.view(torch.float16).clone(),
        "bf16": wide.view(torch.bfloat16).clone(),
        "e4m3": every.view(torch.float8_e4m3fn).clone(),
        "e5m2": every.view(torch.float8_e5m2).clone(),
        "signs": torch.tensor([True, False, True]),
        "waves": torch.from_numpy(np.exp(1j * np.arange(12)).astype(np.complex64)),
    }
    folder = tmp_path_factory.mktemp("viewer")
    torch.save(state, folder / "a b.pth")
    quality = bhk.Quality(exact=("f16", "bf16", "steps", "norm*"))
    metadata = {"license": '"><script>alert(2)</script>'}
    path = bhk.convert(folder / "a b.pth", quality=quality, threads=1, metadata=metadata).path
    assert path is not None
    return path


@needs_node
def test_sketches_are_those_of_reports(file: Path) -> None:
    script = """
        import { openAsBlob } from "node:fs";
        import { open } from "./format_spec/js/reader.mjs";
        import { sketchOf } from "./tools/viewer/sketch.mjs";
        const file = await open(await openAsBlob(process.argv[1])), found = [];
        for (const layer of file.header.layers) {
          found.push(sketchOf(layer, file.codebook(layer), await file.tensor(layer.name)));
        }
        const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
        console.log(JSON.stringify(found, plain));
    """
    found = node(script, file)
    with bhk.open(file) as opened:
        assert any(layer.streams and opened.codebook(layer.name) for layer in opened.layers)
        for layer, result in zip(opened.layers, found, strict=True):
            expected = sketch(opened, layer, None)
            if expected is None:
                assert result is None
                continue
            assert result["sampled"] == expected.sampled
            assert result["low"] == pytest.approx(expected.decoded.low)
            assert result["width"] == pytest.approx(expected.decoded.width)
            assert result["decoded"] == expected.decoded.counts.tolist(), layer.name
            if expected.pairs is None:
                assert result["pairs"] is None
                continue
            pairs = result["pairs"]
            assert pairs["outside"] == expected.pairs.outside
            assert pairs["window"] == expected.pairs.window.reshape(-1).tolist()
            density = logarithmic(expected.pairs.density).reshape(-1).astype(int)
            assert np.abs(density - pairs["density"]).max() <= 1  # logarithms may differ in their last digit
            assert np.reshape(pairs["outliers"], (-1, 2)) == pytest.approx(expected.pairs.outliers, abs=1e-5)


# ----------------------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """The page, read from the disk. At the end there must be no complaints."""
    page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page.set_default_timeout(WAIT_MS)
    page.complaints = []
    page.requests = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(viewer.PAGE.as_uri())
    yield page
    page.close()
    assert page.complaints == []


def choose(page: Any, path: Path) -> str:
    """Open a file and return what the page says of it in the end."""
    page.set_input_files("#file", path)
    page.wait_for_selector("#status.sound, #status.refused")
    return page.locator("#status").inner_text()  # type: ignore[no-any-return]


@needs_browser
def test_a_file_is_drawn_and_checked_and_nothing_is_fetched(page: Any, file: Path) -> None:
    with bhk.open(file) as opened:
        layers, streams = opened.layers, sum(len(layer.streams) for layer in opened.layers)
    assert f"all {streams} streams match" in choose(page, file)
    assert page.locator("h1").inner_text() == "a b.bhk"
    assert page.locator("#verify").inner_text() == "bhk verify 'a b.bhk' --against 'a b.pth'"
    assert f"{file.stat().st_size:,} bytes" in page.locator("#summary").inner_text()
    assert "<script>alert(2)</script>" in page.locator("#provenance").inner_text()
    names = page.locator("#table tbody button").all_inner_texts()
    assert len(names) == len(layers)
    assert HOSTILE.replace("\u202e", "\\u202e") in names
    for index in range(len(layers)):
        page.locator("#table tbody button").nth(index).click()
        page.locator("#layer-body .hashes").wait_for(state="attached")
        page.locator("#layer-body [role=status]").wait_for(state="detached")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.requests == [viewer.PAGE.as_uri()]


@needs_browser
def test_after_a_file_the_browser_forbids_connections(page: Any, file: Path, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        fetch = f"fetch('{server.url}/nothing').then(() => 'sent', () => 'forbidden')"
        assert page.evaluate(fetch) == "sent"
        asked = len(server.asked)
        choose(page, file)
        assert page.evaluate(fetch) == "forbidden"
        assert len(server.asked) == asked
    assert page.locator("#address").is_disabled()
    assert any("Content Security Policy" in text for text in page.complaints)
    page.complaints.clear()


@needs_browser
def test_bad_files_are_refused_by_rule(page: Any, tmp_path: Path) -> None:
    bad = ROOT / "format_spec" / "vectors" / "bad"
    for name in ("P7_hash_changed.bhk", "H2_metadata.bhk", "D2_planes.bhk", "P1_empty.bhk"):
        assert choose(page, bad / name).startswith(f"Refused, rule {name[:2]}: ")
        assert page.locator("h1").inner_text() == name


@needs_browser
@pytest.mark.parametrize("bomb", ["header", "tensors"])
def test_what_stands_for_far_more_than_it_holds_is_not_unpacked(page: Any, tmp_path: Path, bomb: str) -> None:
    layer = {"name": "a", "shape": [2**19], "dtype": "F32", "role": "other", "encoding": "exact"}
    stored = zstandard.compress(bytes(2**21))
    stream = {"kind": "values", "stored": len(stored), "decoded": 2**21, "sha256": hashlib.sha256(stored).hexdigest()}
    layers = [layer | {"name": f"a{index}", "streams": [stream]} for index in range(1 if bomb == "header" else 600)]
    header = {"generator": "test", "layers": layers} | ({"x-spaces": "a" * 5_000_000} if bomb == "header" else {})
    like = (ROOT / "format_spec" / "vectors" / "good" / "compressed_minimal.bhk").read_bytes()
    (tmp_path / "bomb.bhk").write_bytes(with_text(like, json.dumps(header).encode(), stored * len(layers)))
    expected = {"header": "too large for this reader", "tensors": "more than 256 times its size"}[bomb]
    found = choose(page, tmp_path / "bomb.bhk")
    assert found.startswith("Not read: ")
    assert expected in found


@needs_browser
def test_of_an_address_only_what_is_drawn_is_fetched(page: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({name: torch.randn(300, 400) for name in "abc"}, tmp_path / "large.pth")
    path = bhk.convert(tmp_path / "large.pth", threads=1).path
    assert path is not None
    length = path.stat().st_size

    def fetched(server: Served) -> int:
        parts = [re.fullmatch(r"bytes=(\d+)-(\d+)", part or "") for _, part in server.asked]
        return sum(int(part[2]) - int(part[1]) + 1 for part in parts if part)

    with served(tmp_path) as server:
        page.locator("#address").fill(f"{server.url}/large.bhk")
        page.locator("#open").click()
        page.wait_for_selector("#layer-body canvas")
        assert page.locator("h1").inner_text() == "large.bhk"
        assert {path for path, _ in server.asked} == {"/large.bhk"}
        assert fetched(server) < 0.75 * length
        page.locator("#check").click()
        page.wait_for_selector("#status.sound")
        assert fetched(server) >= length
        page.locator("#address").fill(f"{server.url}/missing.bhk")
        page.locator("#open").click()
        page.wait_for_selector("#status.refused")
        assert "404" in page.locator("#status").inner_text()
        page.complaints[:] = [text for text in page.complaints if "404" not in text]


@needs_browser
def test_the_theme_changes(page: Any, file: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    choose(page, file)
    light = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) != light


@needs_browser
def test_a_file_can_be_dropped(page: Any) -> None:
    data = list((ROOT / "format_spec" / "vectors" / "good" / "example.bhk").read_bytes())
    drop = """(data) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(data)], "dropped.bhk"));
        for (const name of ["dragover", "drop"]) {
            document.body.dispatchEvent(new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true }));
        }
    }"""
    page.evaluate(drop, data)
    page.wait_for_selector("#status.sound")
    assert page.locator("h1").inner_text() == "dropped.bhk"
    assert page.locator("#table tbody button").all_inner_texts() == ["weight", "bias"]
