"""What the options of keyhole fit mean: parts of an Autoencoder, a prior, names and sizes."""

from typing import Any

import click

PART_OPTIONS = ("bottleneck", "net", "head", "corruption")


def part_options(command: Any) -> Any:
    """--bottleneck, --net, --head, --corruption: a kind and its arguments."""
    for name in PART_OPTIONS:
        said = f"The {name}, as kind:name=value,..."
        command = click.option(f"--{name}", metavar="KIND[:ARGS]", help=said)(command)
    return command


def prior_of(options: dict[str, Any]) -> Any:
    """The prior asked for, checked; None: chosen by the rows."""
    import keyhole.priors  # noqa: F401  (registers its kinds)
    from keyhole.core.part import parse

    return None if options["prior"] is None else parse("prior", options["prior"])


def share_of(text: str) -> str | float:
    """A share of rows as a number, a word as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def parts_of(options: dict[str, Any]) -> dict[str, Any]:
    """The Autoencoder's parts that the options describe."""
    from keyhole.core.part import parse
    from keyhole.modalities import Hints, PictureHints
    from keyhole.training import Plan

    parts = {name: parse(name, options[name]) for name in PART_OPTIONS if options[name]}
    plan = Plan(options["steps"], batch=options["batch"], time_budget_s=options["time_budget"],
                device=options["device"])  # fmt: skip
    if options["learning_rate"] is not None:
        plan.learning_rate = options["learning_rate"]
    if options.get("size"):
        return {**parts, "plan": plan, "hints": PictureHints(_size(options["size"]))}
    hints = Hints(
        kinds=_kinds(options["kind"]) or None,
        only=_names(options["columns"]) or None,
        exclude=_names(options["exclude"]) or None,
        id=options["id_column"],
        weight=options["weight"],
        validation=options["validation"],
    )
    return {**parts, "plan": plan, "hints": hints}


def _names(given: tuple[str, ...]) -> list[str]:
    return [text for text in given if text.strip(", ")]  # Hints knows the table's columns


def _kinds(given: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, kind = text.rpartition("=")
        if not equals:
            raise click.UsageError(f"--kind {text!r}: write COLUMN=KIND")
        found[name] = kind
    return found


def _size(text: str) -> list[int]:
    """Height and width in pixels."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise click.UsageError(f"--size {text!r}: write HEIGHTxWIDTH, such as 64x64")
    return [int(side) for side in sides]
