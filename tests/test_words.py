"""Public text uses the field's terms: CLI help, docs, page, exported names, output columns."""

import inspect
import re
from pathlib import Path

import click
import pytest
from sklearn.base import BaseEstimator

import keyhole
from keyhole.cli import cli
from keyhole.tasks.detect.answer import Answer

ROOT = Path(__file__).parent.parent
# The project's former words; ordinary English uses of the same words are spelled out as allowed.
FORMER = re.compile(
    r"surpris(?:e|es|ing)\b|\bdoubts?\b|(?<!false[_ -])\balarm[_ -]rates?\b|heat maps?\b"
    r"|\blikeness|\bplan=|\bhints?\b|\blearnt\b|\bpictures?\b|in sight\b"
    r"|hidden (?:cells|values)|\bsegments?\b|\bthe bank\b|remembered|\bgauge|\bforesee"
    r"|\bsurvey|[«»]|taken away|whole or not at all|\bas it is\b|\bthat is none\b|in place of",
    re.IGNORECASE,
)
ALLOWED = re.compile(r'class="hint"')  # a name in a style sheet
# The prose of docs/benchmarks.md quotes names as they were when a line was measured.
DOCS = [
    ROOT / "README.md",
    *(
        page
        for folder in (".", "checks", "coming_from", "gallery")
        for page in sorted((ROOT / "docs" / folder).glob("*.[mp][dy]"))
        if page.name not in {"benchmarks.md", "conf.py"} and not page.name.startswith("write_")
    ),
]
PAGES = sorted((ROOT / "keyhole" / "report").glob("*.j2"))


def former_words(text: str) -> list[str]:
    text = "\n".join(line for line in text.splitlines() if not line.startswith("{"))  # measured
    text = re.sub(r"(?<=[a-z])\n +(?=[a-z])", " ", text)  # a term may be wrapped
    lines = text.splitlines()
    return [f"{m.group(0)!r} in: {line.strip()[:120]}" for line in lines
            for m in FORMER.finditer(ALLOWED.sub("", line))]  # fmt: skip


@pytest.mark.parametrize("path", [*DOCS, *PAGES], ids=lambda path: path.name)
def test_docs_and_pages_use_the_fields_terms(path):
    assert former_words(path.read_text()) == []


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    return {name: cli.get_command(context, name) for name in cli.list_commands(context)}


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_the_help_of_a_command_uses_the_fields_terms(name):
    command = commands()[name]
    assert former_words(command.get_help(click.Context(command, **cli.context_settings))) == []


def test_exported_names_and_arguments_use_the_fields_terms():
    words = list(keyhole.__all__)
    for name in keyhole.__all__:
        exported = getattr(keyhole, name)
        if inspect.isclass(exported) and issubclass(exported, BaseEstimator):
            words += inspect.signature(exported).parameters
            words += [member for member in dir(exported) if not member.startswith("_")]
    assert former_words("\n".join(words)) == []


def test_answers_have_the_columns_of_the_glossary():
    fields = list(inspect.signature(Answer).parameters)
    assert {"anomaly_score", "score_std", "p_value", "alarm", "reasons"} <= set(fields)
    assert former_words("\n".join(fields)) == []
