"""One thread, fixed seeds, the same hypothesis cases in every run, and shapes that are checked."""

import contextlib
import dataclasses
import functools
import importlib
import os

import beartype
import jaxtyping
import numpy as np
import pytest
from hypothesis import settings
from scripts import script_runner
from threadpoolctl import threadpool_limits

settings.register_profile("keyhole", max_examples=12, deadline=None, derandomize=True)
settings.load_profile("keyhole")

LIBRARIES = ("torch", "scipy.stats", "sklearn.mixture", "pandas", "polars", "pyarrow.parquet",
             "narwhals", "rich.progress", "click")  # fmt: skip
SHAPES = ("Float[", "Int64[", "Bool[", "jaxtyping.")
# Checking shapes at every call doubles the time of a training step. So tests of parts check them
# in the whole package, and all others in the packages that training steps do not call.
ALWAYS_CHECKED = ("keyhole.checks", "keyhole.jobs", "keyhole.report")
check_types = beartype.beartype
check_calls = jaxtyping.jaxtyped


def shaped_hints(function):
    """Those annotations of a function that say a shape, by name, texts evaluated."""
    hints = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        with contextlib.suppress(Exception):  # a name that is imported for type checkers alone
            hints[name] = eval(hint, function.__globals__) if isinstance(hint, str) else hint
    return {n: h for n, h in hints.items() if any(shape in str(h) for shape in SHAPES)}


def check_shapes(function):
    """The function, with those of its arguments checked that have a shape, and what it returns.

    pytest's `--jaxtyping-packages` decorates every function, not the classes, and there beartype
    refuses `Self`, protocols, and names that are imported for type checkers alone.
    """
    shaped = shaped_hints(function)
    if not shaped:
        return function
    function.__annotations__ = shaped  # this function is jaxtyping's own copy of the signature
    return check_types(function)


def check_on_demand(function):
    """The function, its shapes checked during those tests that ask for `every_shape` alone.

    It is decorated at its first such call, as decorating all takes longer than many a test.
    """
    checked = None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal checked
        if not check_on_demand.active:
            return function(*args, **kwargs)
        checked = checked or check_calls(function, typechecker=check_shapes)
        return checked(*args, **kwargs)

    return call


check_on_demand.active = False


def check_calls_with_shapes(*, typechecker):
    """jaxtyping's decorator, for those functions and dataclasses alone that say a shape.

    Around any other it checks nothing, and takes as long at every call.
    """

    def decorate(target):
        if isinstance(target, type) and not dataclasses.is_dataclass(target):
            return target
        function = target.__init__ if isinstance(target, type) else target
        if not shaped_hints(function):
            return target
        if target.__module__.startswith(ALWAYS_CHECKED):
            return check_calls(target, typechecker=typechecker)
        if not isinstance(target, type):
            return check_on_demand(target)
        target.__init__ = check_on_demand(target.__init__)
        return target

    return decorate


# Both are looked up by the import hook when it decorates.
beartype.beartype = check_shapes
jaxtyping.jaxtyped = check_calls_with_shapes


def pytest_collection():
    """Import large libraries first, and only where tests run.

    What the hooked package imports is compiled anew, as the hook's compiled files have names of
    their own. The process that hands out the tests calls another plugin's `pytest_collection`.
    """
    for name in LIBRARIES:
        importlib.import_module(name)


def pytest_collection_modifyitems(items):
    """Pages of the docs first: they take longest, and whatever is last runs on one core alone."""
    items.sort(key=lambda item: item.path.name != "test_docs.py")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Two cores are shared with other jobs, and nets this small gain nothing from more."""
    import torch

    torch.set_num_threads(1)
    with threadpool_limits(1):  # of NumPy and SciPy: threads that wait for each other spin
        yield


@pytest.fixture
def every_shape(monkeypatch):
    """Shapes are checked at every call in the whole package."""
    monkeypatch.setattr(check_on_demand, "active", True)


@pytest.fixture(scope="session")
def run_script():
    """Runs Python code in a folder as a program of its own; returns a CompletedProcess."""
    with script_runner({**os.environ, "OMP_NUM_THREADS": "1"}) as run:  # cores are shared
        yield run


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
