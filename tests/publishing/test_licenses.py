from __future__ import annotations

import pytest

from bhk.publishing.licenses import LICENSES, License, UnknownLicenseError, find_license
from bhk.sam.variants import VARIANTS


@pytest.mark.parametrize("text", ["apache-2.0", "Apache-2.0", " APACHE-2.0 "])
def test_case_is_ignored(text: str) -> None:
    assert find_license(text) == License("apache-2.0")


def test_a_license_that_is_not_on_the_hub_has_a_name_and_a_link() -> None:
    license = find_license("S-Lab-1.0")
    assert license.id == "other"
    assert license.title == license.name == "s-lab-license-1.0"
    assert license.link is not None
    assert license.link.startswith("https://")


@pytest.mark.parametrize(
    ("text", "close"), [("apache", "apache-2.0"), ("cc-by-sa", "cc-by-sa-4.0"), ("slab-1.0", "s-lab-1.0")]
)
def test_an_unknown_license_suggests_similar_ones(text: str, close: str) -> None:
    with pytest.raises(UnknownLicenseError, match=f"'{text}'; did you mean .*{close}.*, or use 'other'"):
        find_license(text)


@pytest.mark.parametrize("text", ["", "§", "\x1b[2J\n"])
def test_without_similar_names_the_error_links_to_the_list(text: str) -> None:
    with pytest.raises(UnknownLicenseError, match=r"; see https.*repositories-licenses, or use 'other'") as caught:
        find_license(text)
    assert str(caught.value).isprintable()


def test_every_license_in_the_table_of_variants_is_known() -> None:
    assert all(find_license(variant.license).id in LICENSES for variant in VARIANTS.values())
