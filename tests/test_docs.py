"""What the docs say is what the library does."""

import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import keyhole
from keyhole.checks import CHECKS
from keyhole.cli import cli
from keyhole.core.environment import DISTRIBUTION, install_command, version_of
from keyhole.core.parts import kinds
from keyhole.tasks import Task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ["README.md", *[f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]]
TEXTS = {".py", ".j2", ".js"}


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


def code_of(page):
    """The Python blocks of a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))


def test_the_tutorials_bottleneck_is_sixty_lines_at_most():
    assert len(code_of("docs/bottlenecks.md").splitlines()) <= 60


# Pages train as users should; here each net takes fewer steps, those of a large U-Net fewest.
FEWER_STEPS = """
from keyhole.training import TrainingConfig

steps_of_the_page = TrainingConfig.steps_for
TrainingConfig.steps_for = lambda *args: min(steps_of_the_page(*args), {steps})
"""


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)])
def test_code_in_the_docs_runs_without_pandas_and_prints_what_it_says(page, run_script, tmp_path):
    code = code_of(page)
    fewer = FEWER_STEPS.format(steps=2 if page == "docs/denoising.md" else 60)
    done = run_script(fewer + code, tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    for line in re.findall(r"# -> (.*)", code):
        assert line in printed
    if page == "docs/generation.md":
        assert "AUROC" in printed


def test_no_file_offers_to_install_the_stranger_of_our_name():
    """`keyhole` on the package index is another project; ours is `keyhole-ae`."""
    texts = [path for path in ROOT.glob("keyhole/**/*") if path.suffix in TEXTS]
    texts += [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.py")]
    assert len(texts) > 100
    for path in texts:
        offer = re.search(r"pip install.*\bkeyhole\b(?!-ae)|\bkeyhole\[", path.read_text())
        assert not offer, f"{path} offers {offer.group()!r}"


def test_the_distribution_has_a_name_of_its_own_and_the_version_of_the_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION == "keyhole-ae"
    assert project["version"] == keyhole.__version__ == version_of("keyhole")
    assert project["scripts"] == {"keyhole": "keyhole.cli:main"}
    assert install_command("images", "medical") == 'pip install "keyhole-ae[images,medical]"'
    assert version_of("no-such-package") == "unknown"


def test_the_commands_in_the_readme_exist():
    used = set(re.findall(r"^\$ keyhole (\w+)", README, re.MULTILINE))
    assert used
    assert used <= {*cli.commands, *Task.registry}


def test_every_check_has_its_paragraph():
    page = (ROOT / "docs" / "checks.md").read_text()
    for code, check in CHECKS.items():
        assert f"## {code} {check.title}" in page


@pytest.mark.parametrize("page", PAGES)
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


def test_the_format_names_every_key_of_a_table_and_of_a_column_of_dates():
    page = (ROOT / "docs" / "format.md").read_text()
    table = inspect.signature(kinds("modality")["tabular"]).parameters
    dates = inspect.signature(kinds("column")["datetime"]).parameters
    for key in {*table, *dates} - {"columns"}:
        assert f"`{key}`" in page, key
