"""A task is one class: its command, its options and its help come from it."""

import inspect

import numpy as np
import pandas as pd
import pytest

from keyhole import Autoencoder, TrainingConfig
from keyhole.cli import cli, run
from keyhole.tasks import Task
from keyhole.tasks.base import Option

# The class below is registered where other tests of this process do not meet it: in a fixture.
EVERY_TASK = pytest.mark.parametrize("task", Task.registry.values(), ids=Task.registry)


class Scale(Task):
    """The first code of each row, multiplied: a task that only this test knows."""

    verb = "scale"
    summary = "A multiple of the first code."
    help = "A multiple of the first code of every row of DATA."
    options = (Option("factor", float, "What to multiply by.", default=2.0),)

    def __init__(self, autoencoder, *, factor=2.0):
        super().__init__(autoencoder)
        self.factor = factor

    def table(self, rows, start):
        import pyarrow as pa

        return pa.table({"scaled": self.factor * self.autoencoder.model_.code(rows, start)[:, 0]})


Task.registry.pop("scale")


@pytest.fixture(autouse=True, scope="module")
def _only_here():
    Task.registry["scale"] = Scale
    yield
    Task.registry.pop("scale")


def test_a_task_that_is_one_class_runs_from_python_and_from_the_command_line(tmp_path, capfd):
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    model = Autoencoder(training=TrainingConfig(20), random_state=0).fit(rows)
    model.save(str(tmp_path / "m.keyhole"))
    answer = Scale(model, factor=3.0).answer(rows)
    first = np.asarray(model.transform(rows))[:, 0]
    np.testing.assert_allclose(answer["scaled"], 3.0 * first, rtol=1e-6)
    out = tmp_path / "out.csv"
    paths = [str(tmp_path / "m.keyhole"), str(tmp_path / "rows.csv")]
    assert run(["scale", *paths, "--factor", "3", "-o", str(out)]) == 0
    np.testing.assert_allclose(pd.read_csv(out)["scaled"], answer["scaled"], rtol=1e-5)
    assert "200 rows" in capfd.readouterr().err


def test_its_help_lists_the_task_and_its_options(capfd):
    assert run(["--help"]) == 0
    assert "scale        A multiple of the first code." in capfd.readouterr().out
    assert run(["scale", "--help"]) == 0
    page = capfd.readouterr().out
    assert "A multiple of the first code of every row of DATA." in page
    assert "--factor FLOAT" in page
    assert "[default: 2.0]" in page


@EVERY_TASK
def test_each_option_of_a_command_is_an_argument_of_its_task(task):
    arguments = inspect.signature(task).parameters
    assert {option.name for option in task.options} <= set(arguments)


@EVERY_TASK
def test_each_task_has_a_command(task):
    command = cli.get_command(None, task.verb)  # pyright: ignore[reportArgumentType]
    assert command is not None
    assert [p.name for p in command.params][:2] == ["model", "data"]
    assert command.short_help == task.summary
