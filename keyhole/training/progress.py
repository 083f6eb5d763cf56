"""A progress bar on a terminal, a plain line now and then elsewhere."""

import sys

from keyhole.core.stages import shown, spoke
from keyhole.printable import printable
from keyhole.training.history import Event
from keyhole.training.loop import Watcher


def progress(to_terminal: bool | None = None) -> Watcher:
    """A watcher that shows step, held-out nats and time left on standard error."""
    terminal = sys.stderr.isatty() if to_terminal is None else to_terminal
    watch = _bar() if terminal else _lines()

    def watched(event: Event) -> None:
        spoke()
        watch(event)

    return watched


def _lines() -> Watcher:
    said = [-1.0]

    def watch(event: Event) -> None:
        share = event.step / event.steps
        if event.step == 0:
            print(f"train     {event.steps:,} steps, about {clock(event.seconds_left)}",
                  file=sys.stderr)  # fmt: skip
        elif event.note:
            print(f"train     {printable(event.note)}", file=sys.stderr)
        elif share >= said[0] + 0.1 or event.step == event.steps:
            said[0] = share
            print(
                f"train     {share:4.0%}  held-out {event.held_out:.3f} nats/row  "
                f"{clock(event.seconds_left)} left",
                file=sys.stderr,
            )

    return watch


def _bar() -> Watcher:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("train    "), BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.description}", markup=False), TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip

    def watch(event: Event) -> None:
        said = printable(event.note) or f"held-out {event.held_out:.3f} nats/row"
        if not bar.tasks:
            bar.add_task(said, total=event.steps)
        if not bar.live.is_started:  # a run begins; the search for a width has several
            bar.start()
            shown(True)
        bar.update(bar.tasks[0].id, completed=event.step, total=event.steps, description=said)
        if event.step == event.steps:
            bar.stop()
            shown(False)

    return watch


def tell(about: str, texts: list[str]) -> None:
    """A line for each text on standard error."""
    for text in texts:
        print(f"{printable(about):<9} {printable(text)}", file=sys.stderr)


def clock(seconds: float) -> str:
    """«3 s», «2:05», «1:02:03»."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
