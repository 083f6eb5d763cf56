"""The top of a page: the answer to the user's question, its figures, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keyhole.autoencoder.fit import Model
from keyhole.report.rows import ScoredRows
from keyhole.report.timeline import Timeline
from keyhole.report.words import count, number, percent, plain, rate
from keyhole.tasks.detect.calibration import expected_alarms, most_by_chance
from keyhole.tasks.detect.events import in_words
from keyhole.tasks.realism import Judgement

PREDICTED = 0.1  # explained variance from which a column counts as predicted
NAMED = 3  # columns that a sentence names


@dataclass(frozen=True)
class Fact:
    """A number with its label and a note."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Headline:
    """A title, sentences below it, figures, and the next steps."""

    title: str
    sentences: list[str]
    facts: list[Fact] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)


def of_rows(scored: ScoredRows) -> Headline:
    """How many rows alarm, how many would by chance, and what follows."""
    empty = int(np.isnan(scored.anomaly_score).sum())
    rows, alarms = len(scored) - empty, int(scored.alarm.sum())
    noun = "training row" if scored.training else "row"
    without = [f"{count(empty, 'row')} had no observed value."] if empty else []
    if not rows:
        return Headline("No row has an observed value", without)
    chance = most_by_chance(rows, scored.false_alarm_rate, scored.calibrated_on)
    title = f"{count(alarms, 'alarm') if alarms else 'No alarm'} in {count(rows, noun)}"
    if alarms > chance:
        title += f", {_excess(scored, rows, alarms)} more than by chance"
    elif alarms:
        title += ", no more than by chance"
    sentences = [*_events(scored.timeline), _expected(scored, rows), *without]
    return Headline(title, sentences, figures(scored), _next(scored, alarms > chance))


def _excess(scored: ScoredRows, rows: int, alarms: int) -> str:
    return f"about {max(alarms - scored.false_alarm_rate * rows, 1):,.0f}"


def _expected(scored: ScoredRows, rows: int) -> str:
    promised = f"the false alarm rate of {rate(scored.false_alarm_rate)}"
    if not scored.threshold < np.inf:
        return f"No row can raise an alarm at {promised}: too few rows calibrate the scores."
    expected = expected_alarms(rows, scored.false_alarm_rate)
    return f"If all rows were normal, about {expected} would be expected by chance at {promised}."


def _events(timeline: Timeline | None) -> list[str]:
    """How many events there are, and the strongest one."""
    events = [] if timeline is None else timeline.events or []
    if timeline is None or not events:
        return []
    total = count(len(events) + timeline.more_events, "event")
    strongest = max(events, key=lambda event: event.anomaly_score)
    return [f"The alarms form {total}. The strongest: {plain(in_words(strongest), 300)}."]


def figures(scored: ScoredRows) -> list[Fact]:
    """How many rows alarm, how many are expected to by chance, and how many are surely real."""
    rows, alarms = int((~np.isnan(scored.anomaly_score)).sum()), int(scored.alarm.sum())
    if not rows:
        return []
    chance = most_by_chance(rows, scored.false_alarm_rate, scored.calibrated_on)
    note = f"{rate(scored.false_alarm_rate)} of {count(rows, 'row')}, if all are normal"
    likely = f"up to {chance:,.0f} would still be chance"
    facts = [
        Fact("alarms", f"{alarms:,}", f"{rate(alarms / rows)} of {count(rows, 'row')}"),
        Fact("expected by chance", expected_alarms(rows, scored.false_alarm_rate),
             f"{note}; {likely}"),
    ]  # fmt: skip
    if scored.sure is not None:
        note = "of these, at most 10 % should be false alarms"
        note = note if scored.sure else "no row is clear enough for 10 % false alarms"
        facts.append(Fact("stand out clearly", f"{scored.sure:,}", note))
    if np.isfinite(scored.threshold):
        facts.append(Fact("alarm above", number(scored.threshold),
                          "anomaly score; 1 is a typical row"))  # fmt: skip
    return facts


def _next(scored: ScoredRows, beyond_chance: bool) -> list[str]:
    """What to do with the alarms."""
    steps = []
    if beyond_chance and scored.sure:
        steps.append(f"Check the {count(scored.sure, 'strongest row')} first: they stand out "
                     "clearly. The table below gives their reasons.")  # fmt: skip
    elif beyond_chance:
        steps.append("Check the strongest rows first: the table below gives their reasons.")
    else:
        steps.append("Check only the strongest rows: most alarms may be false.")
        steps.append("Were the training rows normal? If they held anomalies, the detector takes "
                     "such rows for normal, and raises too few alarms.")  # fmt: skip
    if scored.patterns and beyond_chance:
        pattern = scored.patterns[0]
        steps.append(f"Then look at what alarms have in common: {len(pattern.rows):,} of "
                     f"{pattern.of:,} have {plain(pattern.cell, 160)}.")  # fmt: skip
    if any(remark.about == "rates" for remark in scored.remarks):
        steps.append("Do not rely on the number of alarms alone: these rows differ from the "
                     "training rows as a whole. Either many of them are anomalies, or normal rows "
                     "have changed; then calibrate or fit again.")  # fmt: skip
    return steps


def of_model(model: Model, learned: bool) -> Headline:
    """What a model has learned, and whether it is useful."""
    evidence = model.evidence
    masks = bool(evidence["masks"])
    skills = evidence["masked_skill" if masks else "rebuilt_skill"]
    predicted = {name: skill for name, skill in skills.items() if (skill or 0.0) >= PREDICTED}
    best = sorted(predicted, key=lambda name: -predicted[name])[:NAMED]
    names = ", ".join(f"{plain(name, 40)} ({percent(predicted[name])})" for name in best)
    how = "predicted from the other columns" if masks else "reconstructed from the code"
    columns = f"{len(predicted):,} of {count(len(skills), 'column')}"
    title = f"The model has learned: {columns} can be {how}"
    if not learned:
        title = f"The model is not useful yet: only {columns} can be {how}"
        if len(predicted) > len(skills) / 2:
            title = f"The model is not useful yet, though {columns} can be {how}"
    sentences = (
        [f"Best: {names} of the variance on rows that it was not trained on."] if best else []
    )
    nats = evidence["masked_nats" if masks else "rebuilt_nats"]
    pca = evidence["pca_masked_nats" if masks else "pca_rebuilt_nats"]
    mean = evidence["mean_nats"]
    if None not in (nats, pca, mean):
        sentences.append(
            f"Its prediction error is {_lower(mean - nats)} than that of each column's mean and "
            f"{_lower(pca - nats)} than that of PCA, in nats per row."
        )
    steps = ["Find anomalies in new rows: keyhole detect MODEL NEW.csv -o alarms.csv --report "
             "page.html"] if learned else [
        "Read the findings below: each says what to change before the next fit."]  # fmt: skip
    return Headline(title, sentences, _of_fit(model), steps)


def _lower(gain: float) -> str:
    return f"{number(abs(gain))} {'lower' if gain >= 0 else 'higher'}"


def _of_fit(model: Model) -> list[Fact]:
    encoded, ignored = len(model.modality.encoded_columns), len(model.modality.columns)
    ignored -= encoded
    return [
        Fact("rows", f"{model.rows:,}", "in training and held out"),
        Fact("columns", f"{encoded:,}", f"{ignored:,} ignored" if ignored > 0 else ""),
        Fact("code", f"{model.network.width:,}", "numbers for each row"),
    ]


def of_samples(model: Model, judgement: Judgement | None, noun: str) -> Headline:
    """Whether drawn rows (or images: `noun`) look real."""
    facts = _of_fit(model)
    auc = None if judgement is None or np.isnan(judgement.c2st_auc) else judgement.c2st_auc
    if judgement is None or auc is None:
        return Headline(f"{noun.capitalize()} drawn from the model", [], facts, [])
    how = "easy" if auc > 0.9 else "often possible" if auc > 0.7 else "hard"
    title = f"Drawn {noun}: {how} to tell from real ones"
    sentences = [
        f"A classifier that tries to tell drawn from real {noun} reaches an AUROC of {auc:.3f}: "
        "0.5 means that it cannot, 1 that it always can.",
    ]
    facts = [Fact("classifier's AUROC", f"{auc:.3f}", "0.5: drawn look real; 1: never"), *facts]
    step = "Draw more: keyhole sample MODEL -n 1000 -o rows.csv"
    if auc > 0.9:
        step = f"Do not use drawn {noun} instead of real ones yet: see the findings below."
    return Headline(title, sentences, facts, [step])


def of_lists(title: str, sentences: list[str], facts: list[Any]) -> Headline:
    """The top of a page on ranked lists."""
    return Headline(title, sentences, facts)
