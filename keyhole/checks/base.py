"""A check is a code, a title, and one function from evidence to a sentence or nothing."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from keyhole.checks.evidence import Evidence
from keyhole.core.parts import Described, kinds


@dataclass(frozen=True)
class Finding:
    """What a check objects to: its code, its title, and what to do about it."""

    code: str
    title: str
    text: str


class Check(Described):
    """One question about a fitted model; `kind` is its code, KH001 and up."""

    family = "check"
    title: ClassVar[str]

    @abstractmethod
    def ask(self, evidence: Evidence) -> str | None:
        """A sentence that says what is wrong and what to do, or None where all is well."""


def examine(evidence: Evidence) -> list[Finding]:
    """What all registered checks find, by code."""
    found = []
    for code, made in sorted(kinds("check").items()):
        check = made()
        text = check.ask(evidence) if isinstance(check, Check) else None
        if text is not None:
            found.append(Finding(code, type(check).title, text))  # pyright: ignore
    return found


def verdict(evidence: Evidence, findings: list[Finding]) -> str:
    """One line on how far to trust the model."""
    codes = {finding.code for finding in findings}
    if not codes & {"KH001", "KH002", "KH003", "KH004", "KH008"}:
        rest = [finding.title for finding in findings if finding.code != "KH015"]
        more = f" ({', '.join(rest)})" if rest else ""
        does = "predicts masked values" if evidence.masks else "rebuilds rows"
        head = "learned"
        if evidence.worse:
            head += f" except {len(evidence.worse)} of {len(evidence.guessed_skill)} columns"
        return f"{head}: {does} better than PCA at equal width; does not copy{more}"
    return "look again: " + "; ".join(finding.title for finding in findings)
