"""The page in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from javascript.browser import WAIT_MS, launched, needs_browser

from reports.conftest import LICENSE, Made

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, made: Made) -> Iterator[Any]:
    """The open page. At the end there must be no complaints and no network requests."""
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme="light", reduced_motion="reduce")
    page.set_default_timeout(WAIT_MS)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    page.goto(made.page.as_uri())
    page.wait_for_selector("#layer-body canvas")
    yield page
    page.close()
    assert complaints == []


def _names(page: Any) -> list[str]:
    return page.locator("#table tbody button").all_inner_texts()  # type: ignore[no-any-return]


def test_the_parts_of_the_page(page: Any, made: Made) -> None:
    assert page.locator("h1").inner_text() == "sam.bhk"
    summary = page.locator("#summary").inner_text()
    assert f"{made.file.stat().st_size:,} bytes" in summary
    assert f"{made.report.iou:.3f}" in summary
    assert LICENSE in page.locator("#provenance").inner_text()
    assert page.locator("#verify").inner_text() == "bhk verify sam.bhk --against sam.pth"
    cells, rows = page.locator("#map button").count(), page.locator("#table tbody tr").count()
    assert cells == rows == int(re.search(r"Tensors\s+(\d+)", summary)[1])  # type: ignore[index]
    assert page.locator("#rate circle").count() > 10
    assert page.locator("#layer-body canvas").count() >= 2


def test_searching_and_sorting(page: Any) -> None:
    page.locator("#search").fill("attn QKV")
    names = _names(page)
    assert names
    assert all("attn.qkv" in name for name in names)
    assert page.locator("#found").inner_text().startswith(f"{len(names)} of ")
    page.locator("#search").fill("weight linear")
    head = page.locator("#table thead button", has_text="Bytes")
    for direction, sign in (("descending", -1), ("ascending", 1)):
        head.click()
        assert page.locator("th[aria-sort]:has(button:text-is('Bytes'))").get_attribute("aria-sort") == direction
        sizes = [int(text.replace(",", "")) for text in page.locator("#table tbody td:last-child").all_inner_texts()]
        assert sizes == sorted(sizes, key=lambda size: sign * size)
    page.locator("#search").fill("no such layer")
    assert _names(page) == []


def test_layers_are_selected_from_table_map_and_chart(page: Any) -> None:
    title = page.locator("#layer-title")
    name = _names(page)[3]
    page.locator("#table tbody button").nth(3).click()
    assert title.inner_text() == name
    assert page.locator("tr[aria-selected=true] button").inner_text() == name
    page.locator("#back").click()
    assert page.evaluate("document.activeElement.textContent") == name
    page.locator("#map button").first.focus()
    page.keyboard.press("ArrowRight")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    assert label.startswith(title.inner_text() + ": ")
    page.locator("#rate circle").last.focus()
    page.keyboard.press("Home")
    label = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Enter")
    assert label.startswith(title.inner_text() + ": ")
    assert page.locator("#map button[aria-pressed=true]").get_attribute("aria-label") == label


def test_one_stop_for_the_tab_key_in_each_list(page: Any) -> None:
    for place in ("#map", "#rate", "#table tbody"):
        assert page.locator(f"{place} [tabindex='0']").count() == 1


def test_the_colours_of_the_map_change(page: Any) -> None:
    def colours() -> list[str]:
        return page.locator("#map button").evaluate_all("all => all.map(cell => cell.style.background)")  # type: ignore[no-any-return]

    seen = [colours()]
    for text in ("SNR", "Largest error", "Role"):
        page.get_by_label(text, exact=True).check()
        seen.append(colours())
    assert len({tuple(each) for each in seen}) == 4
    assert "linear" in page.locator("#map-legend").inner_text()


def test_the_slider_follows_mouse_and_keys(page: Any) -> None:
    slider = page.locator(".compare input").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.up()
    assert slider.input_value() == "25"
    assert page.locator(".compare .over").first.evaluate("node => node.style.clipPath").startswith("inset(0")
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "26"
    assert slider.get_attribute("aria-valuetext") == "original 26 %, compressed 74 %"
    page.keyboard.press("End")
    assert slider.input_value() == "100"
    spots = page.locator(".spots").first
    assert not spots.is_visible()
    page.get_by_label("show where the masks differ").first.check()
    assert spots.is_visible()


def test_dark_mode(page: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    assert page.evaluate(ground) != light
    page.locator("#theme").click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == light  # the choice is kept
    page.reload()
    assert page.evaluate(ground) != light


def test_a_phone_needs_no_horizontal_scrolling(page: Any) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("#table tbody button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.locator("#layer-title").is_visible()
