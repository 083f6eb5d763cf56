"""The command line: the commands of tasks come from the task registry."""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

import click

from keyhole import __version__
from keyhole.cli import demo, denoise, fit, inspect, models, recommend, tasks, watch
from keyhole.cli.common import speaking
from keyhole.tasks import Task


class Commands(click.Group):
    """The commands that are written by hand, and one for each task in the registry."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs: fit, those of tasks, the others."""
        return list(dict.fromkeys(["fit", *sorted(Task.registry), *self.commands]))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in self.commands and cmd_name in Task.registry:
            return speaking(tasks.task_command(Task.registry[cmd_name]))
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Autoencoders that people put to work.

    Train on rows without labels, then find anomalies and their reasons, compute codes, fill
    gaps, draw new rows, or remove noise from images. DATA is a CSV or Parquet file, a folder or
    glob of Parquet files, or - for standard input.
    """


for _command in (
    fit.fit, tasks.detect, tasks.embed, recommend.recommend, watch.watch, models.explain,
    denoise.denoise, tasks.sample, models.update, models.calibrate, models.evaluate,
    models.export, inspect.inspect, demo.demo,
):  # fmt: skip
    cli.add_command(speaking(_command))


class Terminated(KeyboardInterrupt):
    """Raised for a signal that ends the process, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number


def main() -> None:
    """Run the command line and exit: 0 success, 1 alarms with --fail-on-alarm, 2 an error."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # not under nohup
            signal.signal(number, _terminate)
    sys.exit(run(sys.argv[1:]))


def _terminate(number: int, _frame: Any) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise Terminated(number)


def run(arguments: list[str]) -> int:
    """Run a command; returns the exit code."""
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except OSError as fault:
        with suppress(OSError, ValueError):  # the rest of the output must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code if code == 2 or isinstance(fault, BrokenPipeError) else _fail(fault)
    return code


def _run(arguments: list[str]) -> int:
    try:
        result: Any = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as fault:
        fault.show()
        return 2
    except click.ClickException as fault:
        from keyhole.errors import printable

        line = printable(fault.format_message())
        click.UsageError(line, getattr(fault, "ctx", None)).show()
        return 2
    except (click.Abort, KeyboardInterrupt) as stop:
        _complain("stopped")
        return next((s.code for s in (stop, stop.__cause__) if isinstance(s, Terminated)), 130)
    except (BrokenPipeError, SystemExit):  # click raises these if the reader of a pipe is gone
        return 0
    except Exception as fault:  # users never see a traceback
        return _fail(fault)
    return result if isinstance(result, int) else 0


def _fail(fault: Exception) -> int:
    if os.environ.get("KEYHOLE_DEBUG"):
        raise fault
    _complain(_in_words(fault))
    return 2


def _complain(text: str) -> None:
    with suppress(OSError):  # standard error may be full or closed too
        click.echo(f"keyhole: {text}", err=True)


def _in_words(fault: Exception) -> str:
    """An error in one line."""
    from keyhole.core.files import reason
    from keyhole.errors import KeyholeError, printable

    text = printable(" ".join(str(fault).split()))
    if isinstance(fault, KeyholeError):
        return text
    if isinstance(fault, OSError):
        where = "standard output or a file" if fault.filename is None else fault.filename
        return printable(f"{where} cannot be read or written: {reason(fault)}")
    if isinstance(fault, MemoryError):
        return f"not enough memory: {text[:300] or 'close other programs, or give fewer rows'}"
    hint = "a bug in keyhole; KEYHOLE_DEBUG=1 shows where"
    return f"{type(fault).__name__}: {text[:300]} ({hint})"
