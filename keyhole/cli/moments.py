"""keyhole explain --at: what happened around a moment of a series."""

from dataclasses import asdict
from typing import Any

import click

BLOCKS = "▁▂▃▄▅▆▇█"


def course_of(detector: Any, source: Any, options: dict[str, Any]) -> Any:
    """The course around the moment that the options name. Raises: DataError, SettingError."""
    from keyhole.errors import SettingError
    from keyhole.tasks.detect.moment import WINDOWS_AROUND, Question, explain_moment

    moments = detector.autoencoder_.model_.modality.moments
    if moments is None:
        raise SettingError(
            "--at is for a sensor series, but these rows have no time: use --row, or fit "
            "with --time COLUMN"
        )
    if options["machine"] is not None and not moments.has_machines:
        raise SettingError(
            "--machine: this model was fitted without --group, so it has only one machine"
        )
    around = _seconds(options["around"], WINDOWS_AROUND * moments.window)
    question = Question(moments.moment(options["at"]), around, options["machine"])
    return explain_moment(detector, source, question)


def _seconds(text: str | None, default: float) -> float:
    from keyhole.core.times import seconds_of_text

    seconds = default if text is None else seconds_of_text(text)
    if not seconds:
        raise click.UsageError(f"--around {text}: write a duration such as 90s, 10m or 2h")
    return seconds


def spark(values: list[float | None]) -> str:
    """Numbers as bars from the lowest to the highest of them; a blank for None."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    scale = (len(BLOCKS) - 1) / ((high - low) or 1.0)
    return "".join(" " if v is None else BLOCKS[round((v - low) * scale)] for v in values)


def as_text(course: Any) -> list[str]:
    """The course as lines for a terminal: the score, the event, and a table of channels."""
    from keyhole.core.times import moment_text

    word = "an alarm" if course.alarm else "no alarm"
    machine = "" if course.machine is None else f" of machine {course.machine!r}"
    scores = [score for score in course.anomaly_scores if score is not None]
    start, end = (moment_text(time, course.step) for time in (course.start, course.end))
    lines = [
        f"{moment_text(course.at, course.step)} UTC, row {course.row:,}{machine}: anomaly score "
        f"{course.anomaly_score:.2f} ± {course.score_std:.2f} (1 is typical), "
        f"p-value {course.p_value:.3g}, {word}",
        *_event(course),
        f"from {start} to {end}; values before and after are medians",
    ]
    titles = ["blame", "channel", "before", "at", "after", "expected", "differs in"]
    table = [
        [f"{c.share:.0%}", c.channel, c.before, c.at, c.after, c.expected, c.view]
        for c in course.channels
    ]
    widths = [max(map(len, column)) for column in zip(titles, *table, strict=True)]
    middle = "▼".center(len(course.anomaly_scores))
    lines += [_line(titles, widths, middle)]
    lines += [
        _line(row, widths, spark(channel.course))
        for row, channel in zip(table, course.channels, strict=True)
    ]
    if course.more_channels:
        lines.append(f"and {course.more_channels:,} more channels")
    ends = f"{min(scores):.2f} to {max(scores):.2f}, threshold {course.threshold:.2f}"
    blank = sum(widths) + 2 * len(widths)
    return [*lines, f"{f'anomaly score {ends}':<{blank}}{spark(course.anomaly_scores)}"]


def _line(cells: list[str], widths: list[int], course: str) -> str:
    first, *others = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join([first.strip().rjust(widths[0]), *others, course]).rstrip()


def _event(course: Any) -> list[str]:
    """One line on the event that the moment belongs to, if there is one."""
    from keyhole.core.times import moment_text, seconds_of

    event = course.event
    if event is None:
        return []
    start, end = (moment_text(seconds_of(t), course.step) for t in (event.start, event.end))
    until = "goes on" if event.open else f"to {end}"
    return [f"event from {start} {until}, started by {event.channel}, score "
            f"{event.anomaly_score:.2f}"]  # fmt: skip


def as_json(course: Any) -> dict[str, Any]:
    """The course as JSON: moments in ISO 8601, null for what is unknown."""
    from keyhole.core.times import iso_text, seconds_of

    def number(value: float | None) -> float | None:
        return None if value is None or value != value else round(float(value), 6)  # noqa: PLR0124

    event = course.event and {
        **asdict(course.event),
        **{name: iso_text(seconds_of(getattr(course.event, name)))
           for name in ("start", "end", "peak")},
    }  # fmt: skip
    return {
        **{name: iso_text(getattr(course, name)) for name in ("at", "start", "end")},
        "row": course.row,
        "machine": course.machine,
        **{name: number(getattr(course, name))
           for name in ("anomaly_score", "score_std", "p_value", "threshold")},
        "alarm": course.alarm,
        "event": event,
        "anomaly_scores": [number(score) for score in course.anomaly_scores],
        "channels": [
            {**vars(channel), "share": number(channel.share),
             "course": [number(value) for value in channel.course]}
            for channel in course.channels
        ],
        "more_channels": course.more_channels,
    }  # fmt: skip
