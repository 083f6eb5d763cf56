"""Every public class and function says what its arguments mean, and its examples run."""

import doctest
import inspect
import re

import numpy as np
import pytest

import keyhole

PUBLIC = [
    name for name in keyhole.__all__
    if not (inspect.isclass(getattr(keyhole, name))
            and issubclass(getattr(keyhole, name), BaseException | UserWarning))
]  # fmt: skip
EVERY = pytest.mark.parametrize("name", PUBLIC)


def sections(name: str) -> dict[str, str]:
    """The text of each numpydoc section by its title."""
    text = inspect.getdoc(getattr(keyhole, name)) or ""
    parts = re.split(r"^(\w+)\n-{3,}\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> dict[str, tuple[str, str]]:
    """The type and the meaning of each name that a section describes."""
    described = re.findall(r"^(\w[\w, ]*?)(?: : (.*))?\n((?:    .*\n?)+)", section, re.MULTILINE)
    return {n: (kind, text) for names, kind, text in described for n in names.split(", ")}


@EVERY
def test_every_argument_is_described_with_its_default(name):
    described = entries(sections(name)["Parameters"])
    arguments = inspect.signature(getattr(keyhole, name)).parameters
    assert list(described) == list(arguments)
    for argument, parameter in arguments.items():
        kind, text = described[argument]
        assert len(text.split()) >= 3, argument
        if parameter.default is inspect.Parameter.empty:
            assert "default" not in kind, argument
            continue
        default = re.search(r"default=(.*)$", kind)
        assert default, f"{argument}: its type ends in default=..."
        assert eval(default[1]) == parameter.default, argument


@EVERY
def test_fitted_attributes_end_in_an_underscore_and_exist(name):
    cls = getattr(keyhole, name)
    described = entries(sections(name).get("Attributes", ""))
    fits = inspect.isclass(cls) and hasattr(cls, "fit")
    assert bool(described) == fits
    modules = inspect.getmodule(cls), keyhole.autoencoder.base
    source = "".join(map(inspect.getsource, modules))
    for attribute in described:
        assert attribute.endswith("_")
        assert hasattr(cls, attribute) or re.search(rf"\b{attribute}\b", source), attribute


@EVERY
def test_errors_are_named_and_exist(name):
    for error in entries(sections(name)["Raises"]):
        assert issubclass(getattr(keyhole, error), keyhole.KeyholeError)


@EVERY
def test_examples_run_and_print_what_they_say(name, monkeypatch):
    """Warnings are errors here, too. Of images, none are drawn to learn from: that takes 3 s."""
    monkeypatch.setattr("keyhole.modalities.tiles.tiles.MAX_SYNTHETIC", 0.0)
    examples = doctest.DocTestFinder(recurse=False).find(getattr(keyhole, name), name, globs={})
    assert examples[0].examples
    before = np.get_printoptions()
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    failed = runner.run(examples[0], out=report.append).failed
    assert not failed, "".join(report)
    assert np.get_printoptions() == before
