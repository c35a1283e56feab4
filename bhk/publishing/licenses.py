"""Licenses of published weights as the Hub names them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from bhk.base.errors import BhkError, shown

OTHER = "other"
_LINK = re.compile(r"[\w.:/?=&%#+~-]+", re.ASCII)  # characters that need no escape in Markdown
_PAGE = "https://huggingface.co/docs/hub/repositories-licenses"

# The licenses that the Hub knows, as listed on that page.
_LISTED = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research intel-research isc lgpl
lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by
ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
"""
LICENSES = frozenset(_LISTED.split())


class UnknownLicenseError(BhkError):
    """The Hub does not know a license of this name."""


@dataclass(frozen=True)
class License:
    """A license.

    Attributes:
        id: its name on the Hub, such as "apache-2.0"; "other" for one that the Hub does not know.
        name, link: name and address of one that the Hub does not know; None if they are not given.
    """

    id: str
    name: str | None = None
    link: str | None = None

    @property
    def title(self) -> str:
        """Its name in a text."""
        return self.name or self.id


# Licenses in the table of variants that the Hub does not know.
_NAMED = {
    "sam-license": License(OTHER, "sam-license", "https://github.com/facebookresearch/sam3/blob/main/LICENSE"),
    "s-lab-1.0": License(OTHER, "s-lab-license-1.0", "https://github.com/chongzhou96/EdgeSAM/blob/master/LICENSE"),
}


def license_in(metadata: Mapping[str, object]) -> License | None:
    """Return the license that the metadata of a card state; None if they state none that the Hub knows."""
    found, name, link = (
        value if isinstance(value := metadata.get(key), str) else None
        for key in ("license", "license_name", "license_link")
    )
    if found is None or found not in LICENSES:
        return None
    return License(found, name, link if link and _LINK.fullmatch(link) else None)


def find_license(text: str) -> License:
    """Return the license called `text`, ignoring case: "Apache-2.0", "mit", "S-Lab-1.0", "other".

    Raises:
        UnknownLicenseError: there is none; the message suggests similar names.
    """
    name = text.strip().lower()
    if name in _NAMED:
        return _NAMED[name]
    if name in LICENSES:
        return License(name)
    close = difflib.get_close_matches(name, (*sorted(LICENSES), *_NAMED), n=3, cutoff=0.6)
    advice = f"did you mean {' or '.join(close)}" if close else f"see {_PAGE}"
    raise UnknownLicenseError(
        f"the Hub does not know the license {shown(text)!r}; {advice}, or use {OTHER!r} for one that it does not know"
    )
