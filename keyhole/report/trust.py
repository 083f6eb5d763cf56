"""How far to trust a page: one line with a colour, and the findings with what to do about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keyhole.checks import Finding
from keyhole.report.words import count, plain
from keyhole.tasks.drift import Remark

Level = Literal["good", "note", "warn"]
LEVELS: tuple[Level, ...] = ("good", "note", "warn")  # the worst last
# Findings that make a model useless for what it was fitted for; others are notes.
SEVERE = {"KH001", "KH002", "KH003", "KH004", "KH008", "KH012", "KH017", "KH018"}
LEARNED = "learned"  # begins the verdict of a model that passes
TITLES: dict[str, tuple[Level, str, str]] = {
    "rates": ("warn", "The promised false alarm rate may not hold",
              "In that case calibrate on rows like them (keyhole calibrate) or fit again. If many "
              "of them are anomalies, this is expected, and the order of the rows still holds"),
    "rate": ("note", "What the false alarm rate rests on", ""),
    "level": ("note", "Unknown values in a column",
              "Check whether the column is written as in training"),
    "gaps": ("note", "More missing values than in training",
             "Check whether the column was exported completely"),
    "group": ("note", "Unknown groups", "Fit again with rows of these groups"),
    "few": ("note", "Too few rows to compare with the training rows", ""),
    "left_out": ("note", "Not everything was read", ""),
}  # fmt: skip


@dataclass(frozen=True)
class Notice:
    """A finding on a page; `level` is its colour, `code` that of its check, "" for others."""

    level: Level
    title: str
    text: str
    code: str = ""


@dataclass(frozen=True)
class Trust:
    """The line and its colour, that of the worst notice; `verdict` is what a terminal prints."""

    level: Level
    line: str
    notices: list[Notice]
    verdict: str


def trust_of(
    verdict: str,
    findings: Sequence[Finding],
    more: Sequence[Notice] = (),
    line: str = "",
    subject: str = "The model",
) -> Trust:
    """How far to trust a model with this verdict; `more` are notices on rows or samples.

    `line` ends the line, and says what is known of rows or samples.
    """
    passed = verdict.startswith(LEARNED)
    severe = {finding.code for finding in findings} & SEVERE
    notices = [_of_finding(finding, passed, severe) for finding in findings]
    notices = sorted([*notices, *more], key=lambda notice: -LEVELS.index(notice.level))
    levels: list[Level] = ["good" if passed else "warn", *(notice.level for notice in notices)]
    level = max(levels, key=LEVELS.index)
    text = _of_model(subject, passed, len(findings))
    end = f", {line}" if passed and line else ""
    return Trust(level, f"{text}{end}.", notices, verdict)


def _of_finding(finding: Finding, passed: bool, severe: set[str]) -> Notice:
    """A finding; it is severe if it is why the model did not pass."""
    level: Level = "warn" if not passed and (finding.code in severe or not severe) else "note"
    return Notice(level, _capital(finding.title), f"{_capital(finding.text)}.", finding.code)


def _of_model(subject: str, passed: bool, findings: int) -> str:
    """Whether the model passes the checks, without a full stop."""
    if not passed:
        return f"{subject} does not pass the checks: read the findings before you rely on it"
    notes = f" with {count(findings, 'note')}" if findings else ""
    return f"{subject} passes the checks{notes}"


def of_rows(remarks: Sequence[Remark], outliers: str | None) -> tuple[list[Notice], str]:
    """Notices on scored rows, and the end of the line; `outliers` is a sentence on training."""
    notices = []
    for remark in remarks:
        if remark.about in TITLES:
            level, title, advice = TITLES[remark.about]
            text = f"{_capital(plain(remark.text, 400))}."
            notices.append(Notice(level, title, f"{text} {advice}." if advice else text))
    if outliers is not None:
        notices.append(Notice("note", "Training rows stand apart", outliers))
    about = {remark.about for remark in remarks}
    if "rates" in about:
        return notices, "but these rows differ from the training rows as a whole"
    if about & {"level", "gaps", "group"}:
        return notices, "but some columns of these rows differ from training"
    return notices, "and these rows look like the training rows" if "alike" in about else ""


def of_samples(auc: float | None, noun: str = "rows") -> tuple[list[Notice], str]:
    """Notices on drawn rows, or images (`noun`); `auc` is the AUROC of a classifier."""
    if auc is None:
        return [], ""
    text = (
        f"A classifier tells drawn {noun} from real ones with an AUROC of {auc:.3f} (0.5: it "
        "cannot; 1: always). Give more training steps or rows, or another prior, before you use "
        f"drawn {noun} instead of real ones."
    )
    if auc > 0.9:
        title = f"Drawn {noun} are easy to tell from real ones"
        return [Notice("warn", title, text)], f"but drawn {noun} are easy to tell from real ones"
    if auc > 0.7:
        title = f"Drawn {noun} can often be told from real ones"
        return [Notice("note", title, text)], f"but drawn {noun} can often be told from real ones"
    return [], f"and drawn {noun} are hard to tell from real ones"


def _capital(text: Any) -> str:
    return f"{text[:1].upper()}{text[1:]}"
