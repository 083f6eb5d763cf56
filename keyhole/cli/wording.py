"""What every command says: errors and warnings in terms of its options, and what it waits for."""

import functools
import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import click

from keyhole.errors import KeyholeError

# Arguments whose option is called something else; an empty option is one that there is not.
OTHER_NAMES = {
    "time_budget_s": "--time-budget", "random_state": "--seed", "kinds": "--kind",
    "only": "--columns", "exclude": "--exclude", "clean": "--clean", "bad": "--bad",
    "noise": "--noise", "axes": "--axes",
}  # fmt: skip
# Advice in Python that has a form of its own on the command line.
ADVICE = (
    ("PictureHints(size=(height, width))", "--size HEIGHTxWIDTH"),
    ("Pairs() and fit(noisy, clean)", "--corruption pairs and --clean"),
    ("fit(noisy, clean)", "--clean"),
    ("Denoiser(", "keyhole fit --for denoise ("),
    ("BlindSpot(reach=[1, 1])", "--corruption blind_spot:reach=[1,1]"),
    ("give Noise(1.0) and noise=...", "give --corruption noise:scale=1.0 and --noise"),
    ("fit with Variational()", "fit with --bottleneck variational"),
    ("(scale='shared')", "(--head mixed:scale=shared)"),
    ("fallback=False", "--no-fallback"),
)
ARGUMENT = re.compile(r"\b([a-z_]+)=(\"[^\"]*\"|'[^']*'|\.\.\.|[-+\w.]+)")
ADVISED = re.compile(r"(give|write|add|use|with|such as|;|and|or) $")


def in_options(text: str, options: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """The text with `alarm_rate=2.0` as `--alarm-rate 2.0`; `names` are the command's options.

    Only the value that was given for an option, or advice to give one, is rewritten: arguments
    of a part (`--bottleneck plain:width=4`) are written with `=` on the command line too.
    """
    for python, command_line in ADVICE:
        text = text.replace(python, command_line)

    def rewritten(match: re.Match[str]) -> str:
        name, value = match.groups()
        option = OTHER_NAMES.get(name) or names.get(name)
        if option is None or option not in names.values():
            return match[0]
        key = next(k for k, said in names.items() if said == option)
        given = options.get(key)
        is_given = given not in (None, ()) and value in {repr(given), str(given)}
        if not is_given and not ADVISED.search(text[: match.start()]):
            return match[0]
        plain = value.strip("\"'")
        return option if value == "..." else f"{option} {plain}"

    return ARGUMENT.sub(rewritten, text)


def names_of(command: click.Command) -> dict[str, str]:
    """Each option of a command by the name of its parameter, as it is written."""
    options = [p for p in command.params if isinstance(p, click.Option) and p.name]
    return {str(p.name): max(p.opts, key=len) for p in options}


def speaking(command: click.Command) -> click.Command:
    """The command, its errors and warnings in terms of its options, its silent stages named."""
    from keyhole.cli.common import Say, spoken_warnings
    from keyhole.core.stages import lines_for_stages

    run = command.callback
    if run is None or hasattr(run, "names_options"):
        return command
    names = names_of(command)

    @functools.wraps(run)
    def callback(**options: Any) -> Any:
        def reword(text: str) -> str:
            return in_options(text, options, names)

        quiet = bool(options.get("quiet"))
        stages = nullcontext() if quiet else lines_for_stages(command.name or "starting")
        try:
            with stages, spoken_warnings(Say(quiet), reword):
                return run(**options)
        except KeyholeError as fault:
            text = reword(str(fault))
            if text == str(fault):
                raise
            raise type(fault)(text) from fault

    callback.names_options = True  # pyright: ignore
    command.callback = callback
    return command
