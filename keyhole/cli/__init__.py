"""The command line: verbs that mirror the Python names, each loaded only when it is called."""

import importlib
import os
import sys
from typing import Any

import click

from keyhole import __version__

COMMANDS = {
    "fit": ("fit", "Train on a table and keep the model."),
    "detect": ("ask", "Surprise, p-value, alarm and causes of every row."),
    "explain": ("explain", "Why one row is surprising."),
    "embed": ("ask", "The code of every row."),
    "denoise": ("denoise", "Pictures without their noise, files in the formats they came in."),
    "impute": ("ask", "Fill gaps; seen cells stay as they are."),
    "sample": ("sample", "New rows that pass for real ones."),
    "reconstruct": ("ask", "The row that the model expects in place of each."),
    "score": ("ask", "The log-likelihood of every row."),
    "update": ("keep", "Take new rows into the bank and the calibration."),
    "calibrate": ("keep", "Promise alarm rates on rows known to be good."),
    "evaluate": ("evaluate", "Compare alarms with a label column."),
    "inspect": ("inspect", "What a model is, what it was trained on, how far to trust it."),
    "demo": ("demo", "The whole path on data that ships with scikit-learn."),
}


class Lazy(click.Group):
    """Finds a command's module when the command is called: --help loads no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"keyhole.cli.{COMMANDS[cmd_name][0]}")
        return getattr(module, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs and what they answer."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Autoencoders that people put to work.

    Train on rows without labels, then ask: which rows are odd and why, what is their code, what
    belongs in the gaps, what would new rows be. DATA is a CSV or Parquet file, a folder or glob of
    Parquet files, or - for standard input.
    """


def main() -> None:
    """Run the command line: 0 done, 1 alarms with --fail-on-alarm, 2 a fault said in one line."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of these arguments."""
    try:
        result: Any = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as fault:
        fault.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("keyhole: stopped", err=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as fault:  # the last line of defence: a person never sees a traceback
        if os.environ.get("KEYHOLE_DEBUG"):
            raise
        click.echo(f"keyhole: {_said(fault)}", err=True)
        return 2
    return result if isinstance(result, int) else 0


def _said(fault: Exception) -> str:
    from keyhole.errors import KeyholeError

    text = " ".join(str(fault).split())
    if isinstance(fault, KeyholeError):
        return text
    ours = "a fault of keyhole's own; KEYHOLE_DEBUG=1 shows where"
    return f"{type(fault).__name__}: {text[:300]} ({ours})"
