"""Writes docs/cli.md from the commands themselves; a test compares the two."""

from pathlib import Path

import click

from keyhole.cli import cli

PAGE = Path(__file__).with_name("cli.md")


def page() -> str:
    """Every command's --help, in the order of `keyhole --help`."""
    parts = [
        "# The command line\n\nWritten by `python docs/write_cli.py` from the commands themselves. "
        "Exit codes: 0 success, 1 alarms with `--fail-on-alarm`, 2 an error, reported in one line, 130 stopped.\n",
        _block("keyhole", cli),
    ]
    with click.Context(cli, info_name="keyhole") as above:
        for name in cli.list_commands(above):
            command = cli.get_command(above, name)
            assert command is not None
            parts.append(_block(f"keyhole {name}", command))
    return "\n".join(parts)


def _block(name: str, command: click.Command) -> str:
    # The names of the help option as the command line has them, cached by click or not.
    names = cli.context_settings["help_option_names"]
    with click.Context(
        command, info_name=name, terminal_width=96, max_content_width=96, help_option_names=names
    ) as context:
        return f"## {name}\n\n```text\n{command.get_help(context)}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page())
