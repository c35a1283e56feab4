from __future__ import annotations

import builtins
import collections.abc
import re

from tools import python_reference
from tools.public_names import public_names

# Names of Python, torch and Pillow.
KNOWN = {"AbstractContextManager", "Any", "Image", "NoReturn", "Tensor", *dir(builtins), *collections.abc.__all__}


def test_every_type_in_a_signature_is_explained() -> None:
    names = list(public_names())
    public = {name.name.rpartition(".")[2] for name in names}
    explained = {*python_reference.TYPES, *(value.__name__ for value in python_reference.CLASSES)}
    signatures = [python_reference.signature(name) for name in names if python_reference.has_signature(name)]
    used = {word for line in signatures for word in re.findall(r"(?<![\w.\"'])[A-Z]\w+", line)}
    assert used - KNOWN - public == explained


def test_a_type_is_shown_as_it_is_defined() -> None:
    text = python_reference.text()
    assert '- `Mode` is `Literal["auto", "hyper", "dense"]`: ' in text
    assert "- `Device` is `torch.device | str`: " in text


def test_nothing_of_the_machine_is_in_the_reference() -> None:
    text = python_reference.TARGET.read_text(encoding="utf-8")
    assert "environ(" not in text
    assert not re.search(r"/(home|root|tmp|work|usr)/", text)
