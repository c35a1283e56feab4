"""Results that a card shows already: they stay as long as the file that they are of."""

from __future__ import annotations

import re
from dataclasses import replace

from bhk.publishing.facts import CardFacts

_END = "<!-- bhk:results end -->"
_BLOCK = re.compile(rf"^<!-- bhk:results ([0-9a-f]{{64}}) -->\n\n(.*?)\n\n{_END}$", re.MULTILINE | re.DOTALL)


def marked(text: str, sha256: str) -> str:
    """Return the text of results, with marks that say by its hash which file they are of."""
    return f"<!-- bhk:results {sha256} -->\n\n{text}\n\n{_END}"


def results_on(card: str) -> dict[str, str]:
    """Return the texts of results that stand on a card, by the SHA-256 of the file measured."""
    return dict(_BLOCK.findall(card.replace("\r\n", "\n")))


def with_kept_results(facts: CardFacts, card: str) -> CardFacts:
    """Return facts with the results that a card shows of the very same files."""
    kept = results_on(card)
    return replace(facts, files=tuple(replace(file, kept_results=kept.get(file.sha256)) for file in facts.files))


def lost_results(facts: CardFacts, card: str) -> str | None:
    """Return a hint when a card shows results of other files than these, and there are none of one of these."""
    on_card = results_on(card)
    others = on_card.keys() - {file.sha256 for file in facts.files}
    if not others or all(file.results or file.sha256 in on_card for file in facts.files):
        return None
    return "the card's results were of another file and are gone; give those of this one with --eval (evaluation=)"
