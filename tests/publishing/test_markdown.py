from __future__ import annotations

import pytest

from bhk.publishing.markdown import block, code, repository_link, table


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b", "`a_b`"),
        ("a`b", "``a`b``"),
        ("`a``", "``` `a`` ```"),
        ("", "`  `"),
        ("a\nb", r"`'a\nb'`"),
        ("<b>|x", "`<b>|x`"),
    ],
)
def test_inline_code_keeps_its_text(text: str, expected: str) -> None:
    assert code(text) == expected


def test_a_table() -> None:
    rows = [["x", code("a|b")], ["", "1"]]
    assert table([("name", "left"), ("n", "right")], rows) == ("| name | n |\n|---|--:|\n| x | `a\\|b` |\n|  | 1 |")


def test_a_program_and_a_link() -> None:
    assert block("sh", "a", "b") == "```sh\na\nb\n```"
    assert repository_link("me/x") == "[me/x](https://huggingface.co/me/x)"
