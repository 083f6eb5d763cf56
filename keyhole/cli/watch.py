"""keyhole watch: events of a sensor series, as its rows are written."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from keyhole.cli.common import (
    Say,
    json_option,
    load_detector,
    machine_options,
    model_argument,
    spoken_warnings,
)

SAVE_S = 10.0  # between two times that the state is saved


@click.command(short_help="Events of a sensor series, as they happen.")
@model_argument
@click.option("--follow", type=click.Path(), metavar="FILE",
              help="File that another process writes; it may be rotated.")  # fmt: skip
@click.option("--false-events", metavar="RATE",
              help="Limit of false events for each machine, such as 1/day.")  # fmt: skip
@click.option("--state", type=click.Path(), metavar="FILE",
              help="State file: continue from it, and save the state to it.")  # fmt: skip
@click.option(
    "--until-end", is_flag=True, help="Stop at the end of FILE; do not wait for more rows."
)
@click.option("--poll", type=click.FloatRange(0.01), default=0.5, show_default=True,
              metavar="SECONDS", help="How often to check for new rows.")  # fmt: skip
@json_option
@machine_options
def watch(model: str, **options: Any) -> None:
    """Print events of a sensor series as they happen: when they begin, and when they end.

    Rows come from FILE, or from standard input: CSV with a header, or one JSON object per line.
    Only complete lines are read. Ctrl-C stops; with --state the next call continues from there.
    """
    say = Say(options["quiet"])
    _check(options, model)
    with spoken_warnings(say):
        detector = load_detector(model, options, say)
        watching = Watching.of(detector, options, say)
        say("events", watching.promise)
        try:
            with watching.stops_between():
                watching.run(options)
        except KeyboardInterrupt:
            watching.end()
            raise
        watching.end()


def _check(options: dict[str, Any], model: str) -> None:
    """Raises: FileError, UsageError."""
    from keyhole.core.outputs import Output, check_outputs
    from keyhole.errors import FileError

    if options["until_end"] and options["follow"] is None:
        raise click.UsageError("--until-end needs --follow; standard input ends by itself")
    if options["state"] is not None:
        check_outputs([Output("--state", options["state"], "state")],
                      {"--follow": options["follow"]}, model=model)  # fmt: skip
    folder = os.path.dirname(os.path.abspath(options["follow"] or "."))
    if not os.path.isdir(folder) or os.path.isdir(options["follow"] or ""):
        raise FileError(f"--follow {options['follow']}: expected a file, in a folder that exists")


@dataclass
class Watching:
    """A stream, the rows that go into it, and where it is saved."""

    stream: Any
    reader: Any
    follower: Any  # None: standard input
    say: Say
    as_json: bool
    state: str | None
    rows: int = 0
    events: int = 0
    saved_at: float = field(default_factory=time.monotonic)
    waits: bool = False
    stop: Callable[[], Any] | None = None  # what a signal asked for

    @classmethod
    def of(cls, detector: Any, options: dict[str, Any], say: Say) -> Watching:
        """The stream as the options say, gone on from a saved state. Raises: BundleError."""
        from keyhole.data.follow import Follower, RowReader

        path, state, follow = options["follow"], options["state"], None
        stream = detector.stream(false_events=options["false_events"], explain_rows="none")
        reader = RowReader(stream.spec.names, path or "standard input")
        if state is not None and os.path.exists(state):
            stream.resume(state)
            follow = stream.note.get("position")
            if "reader" in stream.note:
                reader.take_json(stream.note["reader"])
            say("state", f"continuing after row {stream.windower.rows:,}")
        follower = None if path is None else Follower(path, follow)
        if follower is not None and follower.missed:
            say.warn(
                f"{path} was replaced in the meantime: rows between the two files may be missing"
            )
        return cls(stream, reader, follower, say, options["as_json"], state)

    @property
    def promise(self) -> str:
        """How many false events are promised, in words."""
        rule = self.stream.rule
        return f"{rule.promise} ({self.stream.detector.calibration_.basis(rule.p_value)})"

    def run(self, options: dict[str, Any]) -> None:
        """Read rows and print what happens, until the end."""
        for lines in self._lines(options["poll"], until_end=options["until_end"]):
            rows = self.reader.rows(lines)
            if rows is not None:
                self.rows += len(rows)
                self._print(self.stream.push(rows))
            if time.monotonic() - self.saved_at > SAVE_S:
                self.save()
            if self.stop is not None:
                self.stop()
        if self.state is None:
            self._print(self.stream.close())

    @contextmanager
    def stops_between(self) -> Iterator[None]:
        """A signal stops between two pushes, never within one: what is saved is whole."""
        before: dict[int, Any] = {}

        def on_signal(number: int, frame: Any) -> None:
            self.stop = partial(before[number], number, frame)
            if self.waits:
                self.stop()

        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # not all are on every system
            if number is not None and callable(signal.getsignal(number)):
                before[number] = signal.signal(number, on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.waits = True
        try:
            if self.stop is not None:
                self.stop()
            yield
        finally:
            self.waits = False

    def end(self) -> None:
        """Save the state, and tell what was read."""
        self.save()
        for text in self.remarks():
            self.say("rows", text)

    def _lines(self, poll: float, *, until_end: bool) -> Iterator[list[str]]:
        from keyhole.data.follow import READ_BYTES, Lines

        if self.follower is None:
            lines, source = Lines(), sys.stdin.buffer
            while True:
                with self._waiting():
                    piece = os.read(source.fileno(), READ_BYTES)
                if not piece:
                    break
                yield lines.add(piece)
            yield lines.end()
            return
        while True:
            new = self.follower.read()
            yield new
            if until_end and self.follower.at_end:
                if self.state is None:
                    yield self.follower.end()
                return
            if not new:
                with self._waiting():
                    time.sleep(poll)

    def _print(self, update: Any) -> None:
        from keyhole.tasks.detect.events import as_json, in_words

        for event in update.events:
            self.events += event.open
            kind = "began" if event.open else "ended"
            text = json.dumps({"event": kind, **as_json(event)}) if self.as_json else (
                f"{kind}     {in_words(event)}"
            )  # fmt: skip
            click.echo(text)
        for change in update.changes:
            text = json.dumps({"event": "changed", **change.as_json()}) if self.as_json else (
                f"changed   {change.text}"
            )  # fmt: skip
            click.echo(text)
        if update.events or update.changes:
            sys.stdout.flush()

    def save(self) -> None:
        """Save the state, if it is to be saved."""
        if self.state is None:
            return
        position = None if self.follower is None else self.follower.position
        self.stream.note = {"position": position, "reader": self.reader.to_json()}
        self.stream.save(self.state)
        self.saved_at = time.monotonic()

    def remarks(self) -> Iterator[str]:
        """What was read, in sentences."""
        from keyhole.data.tracks import rows_text

        began = f"{self.events:,} event{'s' * (self.events != 1)} began"
        yield f"{rows_text(self.rows)}; {began}"
        if self.reader.broken:
            lines = "1 line is not a row" if self.reader.broken == 1 else (
                f"{self.reader.broken:,} lines are not rows"
            )  # fmt: skip
            yield f"{lines} (for example truncated): not used"
        yield from self.stream.counts
