"""What the docs say is what the library does."""

import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest

import keyhole
import keyhole.tasks
from benchmarks import page as page_of_benchmarks
from keyhole.checks import CHECKS
from keyhole.cli import cli
from keyhole.core.environment import DISTRIBUTION, install_command, version_of
from keyhole.core.parts import kinds
from keyhole.tasks import Task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BUILT = ("docs/auto_gallery/", "docs/generated/")  # by `make docs`
PAGES = ["README.md"] + [
    name
    for path in sorted((ROOT / "docs").rglob("*.md"))
    if not (name := path.relative_to(ROOT).as_posix()).startswith(BUILT)
]
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
    """The blocks of a page that are marked `python`, as one program; `py` is others' code."""
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
    texts += [*ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.py"), *map(ROOT.joinpath, PAGES)]
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


def test_every_check_has_its_page_and_its_line_in_the_list():
    overview = (ROOT / "docs" / "checks.md").read_text()
    checks = {code: check.title for code, check in CHECKS.items()} | {
        "KH019": "few users were judged",
        "KH020": "no better than a simple list",
    }  # the last two are asked by the recommender itself
    assert {path.stem for path in (ROOT / "docs" / "checks").glob("*.md")} == set(checks)
    for code, title in checks.items():
        page = (ROOT / "docs" / "checks" / f"{code}.md").read_text()
        assert page.startswith(f"# {code} {title}\n")
        assert "## What to do\n\n- " in page
        assert f"| [{code}](checks/{code}.md) | {title} |" in overview


def test_the_reference_names_every_public_class_and_function():
    page = (ROOT / "docs" / "api.md").read_text()
    entries = {}
    for block in re.findall(r"```{eval-rst}\n(.*?)```", page, re.DOTALL):
        module = re.findall(r"currentmodule:: (\S+)", block)[0]
        entries.setdefault(module, set()).update(re.findall(r"^   (\w+)$", block, re.MULTILINE))
    for family in ("bottlenecks", "corruptions", "heads", "nets", "priors"):
        assert entries[f"keyhole.{family}"] == set(getattr(keyhole, family).__all__)
    assert entries["keyhole"] == set(keyhole.__all__)
    for name in entries["keyhole.tasks"]:
        assert getattr(keyhole.tasks, name).__doc__


def test_the_page_of_the_benchmarks_is_what_their_lines_say():
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page_of_benchmarks.page(), (
        "run python -m benchmarks --write"
    )


def anchors(path):
    """The headings of a page as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", text)) for text in headings]
    return {text.strip().lower().replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    """To a file, and to a heading in it."""
    text = (ROOT / page).read_text()
    for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]+))?\)", text):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_of_the_site_is_in_a_table_of_contents():
    """Add a new page to the toctree of docs/guide.md, reference.md or project.md."""
    entries = set()
    for page in PAGES[1:]:
        folder = Path(page).parent.relative_to("docs")
        for block in re.findall(r"```{toctree}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
            lines = [line for line in block.splitlines() if line and not line.startswith(":")]
            entries |= {(folder / line).as_posix() for line in lines}
    pages = {page.removeprefix("docs/").removesuffix(".md") for page in PAGES[1:]}
    assert {page for page in pages if page.split("/")[0] != "checks"} - {"index"} <= entries


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
