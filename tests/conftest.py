"""One thread, fixed seeds, the same hypothesis cases in every run, and shapes that are checked."""

import beartype
import numpy as np
import pytest
import torch
from hypothesis import settings
from threadpoolctl import threadpool_limits

settings.register_profile("keyhole", max_examples=12, deadline=None, derandomize=True)
settings.load_profile("keyhole")

SHAPES = ("Float[", "Int64[", "Bool[", "jaxtyping.")
check_types = beartype.beartype


def check_shapes(function):
    """The function, with those of its arguments checked that have a shape, and what it returns.

    pytest's `--jaxtyping-packages` decorates every function, not the classes, and there beartype
    refuses `Self`, protocols, and names that are imported for type checkers alone.
    """
    schema = getattr(function, "__annotations__", {})
    shaped = {n: h for n, h in schema.items() if any(shape in str(h) for shape in SHAPES)}
    if not shaped:
        return function
    function.__annotations__ = shaped  # this function is jaxtyping's own copy of the signature
    return check_types(function)


beartype.beartype = check_shapes  # looked up by the import hook when it decorates


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Two cores are shared with other jobs, and nets this small gain nothing from more."""
    torch.set_num_threads(1)
    with threadpool_limits(1):  # of NumPy and SciPy: threads that wait for each other spin
        yield


@pytest.fixture
def rng():
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
