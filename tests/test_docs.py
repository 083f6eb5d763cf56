"""What the docs say is what the library does."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keyhole
from keyhole.checks import Check
from keyhole.cli import COMMANDS
from keyhole.core.part import kinds

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def writer(name):
    """The script docs/write_NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"write_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_of_the_command_line_is_what_the_commands_say():
    made = writer("cli")
    assert (ROOT / "docs" / "cli.md").read_text() == made.page(), "run python docs/write_cli.py"


def test_the_page_of_the_bottlenecks_is_what_they_say_of_themselves():
    made = writer("bottlenecks")
    table = made.part((ROOT / "docs" / "bottlenecks.md").read_text(), "table")
    assert table == made.rows(), "run python docs/write_bottlenecks.py"
    for kind in kinds("bottleneck"):
        assert f"| `{kind}` |" in table


def test_figures_of_bottlenecks_are_kept_where_there_are_no_results():
    made = writer("bottlenecks")
    assert made.figures({}, "as before") == "as before"
    held = {
        "plain": {"digits": {"error": 0.1234}, "satellite": {"nats": 3}},
        "l1": {"digits": {"error": 2.0}},
    }
    assert made.figures(held, "as before").splitlines() == [
        "| kind | digits: error | satellite: nats |",
        "|---|---:|---:|",
        "| `l1` | 2 |  |",
        "| `plain` | 0.123 | 3 |",
    ]


def test_the_tutorials_bottleneck_is_sixty_lines_at_most_and_runs(tmp_path):
    page = (ROOT / "docs" / "bottlenecks.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code.splitlines()) <= 60
    done = ran(code, tmp_path)
    for line in re.findall(r"# -> (.*)", code):
        assert line in done.stdout


def ran(code, folder):
    """The code run on its own: what it registers stays there, and a warning fails it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # cores are shared with other tests
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_code_in_the_readme_runs_and_prints_what_it_says(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    code = "\n".join(blocks)
    done = ran(code, tmp_path)
    said = re.findall(r"# -> (.*)", code)
    assert said
    for line in said:
        assert line in done.stdout


def test_the_code_in_the_page_on_new_rows_runs(tmp_path):
    """Takes half a minute: a Generator is trained at its defaults."""
    page = (ROOT / "docs" / "generation.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code += "print(rows.shape, set(malignant.target), len(path), len(copies))"
    said = ran(code, tmp_path).stdout
    assert "(1000, 31) {0} 5 5" in said
    assert "AUROC" in said


def test_the_code_in_the_page_on_pictures_runs_and_prints_what_it_says(tmp_path):
    """Takes ten seconds: nets are trained on 1,797 pictures."""
    page = (ROOT / "docs" / "pictures.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    said = ran(code, tmp_path).stdout.splitlines()
    assert said == re.findall(r"# -> (.*)", code)


def test_the_commands_in_the_readme_exist():
    used = set(re.findall(r"^\$ keyhole (\w+)", README, re.MULTILINE))
    assert used
    assert used <= set(COMMANDS)


def test_every_check_has_its_paragraph():
    page = (ROOT / "docs" / "checks.md").read_text()
    for code, check in kinds("check").items():
        assert issubclass(check, Check)
        assert f"## {code} {check.title}" in page


@pytest.mark.parametrize(
    "page", ["README.md", *[f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")]]
)
def test_links_between_pages_lead_somewhere(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_public_names_are_few_and_all_there():
    assert len(keyhole.__all__) <= 20
    assert sorted(dir(keyhole)) == sorted(keyhole.__all__)
    for name in keyhole.__all__:
        assert getattr(keyhole, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Autoencodr'"):
        _ = keyhole.Autoencodr
