from __future__ import annotations

from pathlib import Path

import pytest

from bhk.publishing.content import CardContent, card_content
from bhk.publishing.sections import SECTIONS
from bhk.publishing.template import MEANINGS, TemplateError, fill
from publishing.made_up import bhk_file

_LEAST = "{{summary}}\n\n{{ loading }}\n\n{{provenance}}"


@pytest.fixture
def content(tmp_path: Path) -> CardContent:
    return card_content({"model.bhk": bhk_file(tmp_path / "a.bhk")}, "me/any")


def test_the_built_in_template_has_and_explains_every_section(content: CardContent) -> None:
    from importlib import resources

    text = resources.files("bhk.publishing").joinpath("card.md").read_text("utf-8")
    head, _, body = text.partition("-->")
    assert all(f"\n{name} " in head and f"{{{{{name}}}}}" in body for name in SECTIONS)
    filled = fill(content)
    assert "{{" not in filled
    assert "<!--" not in filled
    assert fill(content, text) == filled


def test_every_section_has_a_meaning() -> None:
    assert list(MEANINGS) == list(SECTIONS)


def test_your_own_template(content: CardContent) -> None:
    filled = fill(content, f"\ufeff<!-- for me\r\n-->\r\n## Mine <!-- seen -->\r\n{_LEAST}\r\n")
    assert filled.startswith("## Mine <!-- seen -->\n")
    assert SECTIONS["loading"](content) in filled
    assert "\r" not in filled


def test_only_a_comment_at_the_top_is_left_out(content: CardContent) -> None:
    assert fill(content, f"# Mine\n<!-- kept -->\n{_LEAST}").startswith("# Mine\n<!-- kept -->\n")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "",
            r"lacks \{\{summary\}\}, \{\{loading\}\}, \{\{provenance\}\}; the .*\{\{layers\}\} \(table of the tensors",
        ),
        (_LEAST.replace("{{summary}}", ""), r"lacks \{\{summary\}\};"),
        (f"<!-- {{{{summary}}}} -->{_LEAST.replace('{{summary}}', '')}", r"lacks \{\{summary\}\};"),
        (
            f"{_LEAST}\n{{{{licens}}}}",
            r"unknown placeholder 'licens'; the placeholders.* are \{\{summary\}\} \(what the repository holds\), ",
        ),
        (f"{_LEAST}\n{{{{}}}}", "unknown placeholder ''"),
        (f"{_LEAST}\n{{{{summary}}}}", "'summary' twice"),
        (f"{_LEAST}\nfiles: {{{{files}}}}", "within a line"),
    ],
)
def test_wrong_placeholders_are_named(content: CardContent, template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        fill(content, template)
