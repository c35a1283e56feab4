from __future__ import annotations

import pytest

from bhk.publishing.licences import LICENCES, Licence, UnknownLicenceError, licence_of
from bhk.sam.variants import VARIANTS


@pytest.mark.parametrize("text", ["apache-2.0", "Apache-2.0", " APACHE-2.0 "])
def test_capitals_do_not_count(text: str) -> None:
    assert licence_of(text) == Licence("apache-2.0")


def test_a_licence_that_the_hub_lacks_is_another_one_with_name_and_link() -> None:
    licence = licence_of("S-Lab-1.0")
    assert licence.id == "other"
    assert licence.title == licence.name == "s-lab-license-1.0"
    assert licence.link is not None
    assert licence.link.startswith("https://")


@pytest.mark.parametrize(
    ("text", "close"), [("apache", "apache-2.0"), ("cc-by-sa", "cc-by-sa-4.0"), ("slab-1.0", "s-lab-1.0")]
)
def test_an_unknown_one_names_close_ones(text: str, close: str) -> None:
    with pytest.raises(UnknownLicenceError, match=f"'{text}'; did you mean .*{close}"):
        licence_of(text)


@pytest.mark.parametrize("text", ["", "§", "\x1b[2J\n"])
def test_one_that_is_like_none_points_to_the_list(text: str) -> None:
    with pytest.raises(UnknownLicenceError, match=r"repositories-licenses\)\. Use 'other'") as caught:
        licence_of(text)
    assert str(caught.value).isprintable()


def test_every_licence_of_the_table_of_variants_can_be_written() -> None:
    assert all(licence_of(variant.licence).id in LICENCES for variant in VARIANTS.values())
