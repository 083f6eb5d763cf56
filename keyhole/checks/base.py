"""A check is a code, a title, and one function from evidence to a sentence or nothing."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from keyhole.checks.evidence import Evidence
from keyhole.core.parts import Described, kinds


@dataclass(frozen=True)
class Finding:
    """What a check objects to: its code, its title, and what to do about it."""

    code: str
    title: str
    text: str


class Check(Described):
    """One question about a fitted model; `kind` is its code, KH001 and up.

    `reads` is the class of evidence that it applies to.
    """

    family = "check"
    title: ClassVar[str]
    reads: ClassVar[type] = Evidence

    @abstractmethod
    def ask(self, evidence: Any) -> str | None:
        """A sentence that says what is wrong and what to do, or None where all is well."""


def examine(evidence: Any) -> list[Finding]:
    """What the registered checks for this class of evidence find, by code."""
    findings = []
    for code, kind in sorted(kinds("check").items()):
        check: Any = kind()
        text = check.ask(evidence) if isinstance(evidence, check.reads) else None
        if text is not None:
            findings.append(Finding(code, check.title, text))
    return findings
