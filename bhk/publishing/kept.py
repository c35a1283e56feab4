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


def lost_results(facts: CardFacts, before: str, after: str) -> str | None:
    """Return a hint when a card shows results that the one in its place does not, and no others of the same files."""
    shown, ours = results_on(before).keys(), {file.sha256 for file in facts.files}
    if shown & ours - results_on(after).keys():
        return "the card's results are gone, for the template has no place for them; put {{results}} into it"
    if shown <= ours or all(file.results or file.sha256 in shown for file in facts.files):
        return None
    return "the card's results were of another file and are gone; give those of this one with --eval (evaluation=)"
