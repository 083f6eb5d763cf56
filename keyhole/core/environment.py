"""Seeds, processor threads, and how this package is installed.

Threads that share a small step wait for each other more than they work: beside another busy
process a step of 9 ms took 110 to 500 ms on two threads. The number of threads depends on the
size of the work alone, never on a clock, because rounding, and so a model's bits, depend on it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from threading import Lock
from typing import Any

import torch
from sklearn.utils import check_random_state

from keyhole import __version__
from keyhole.errors import MissingExtraError, SettingError


def seed_from(random_state: Any) -> int:
    """A seed: equal for equal numbers, drawn anew for None, the next of a RandomState.

    Raises: SettingError for anything else.
    """
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as fault:
        raise SettingError(
            f"random_state={random_state!r:.60}: give a whole number, None, or a "
            "numpy.random.RandomState"
        ) from fault


PAYS = 5e10  # multiply-adds of a step that keep one thread busy: measured, see benchmarks.threads
TOLD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

# The number that the caller of the outermost `threads_for` had.
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Torch's threads for steps of so many multiply-adds; the caller's number is put back.

    At most as many as torch has; exactly as many where OMP_NUM_THREADS or --threads said so.
    NumPy's and SciPy's linear algebra has one thread meanwhile.
    """
    before, limit = torch.get_num_threads(), _limit.get()
    limit = before if limit is None else limit
    count = limit if is_told() else int(min(max(multiply_adds // PAYS, 1), limit))
    token = _limit.set(limit)
    torch.set_num_threads(count)
    try:
        with one_thread_of_algebra():
            yield
    finally:
        torch.set_num_threads(before)
        _limit.reset(token)


_algebra = Lock()  # held by the call that has set the threads of linear algebra


@contextmanager
def one_thread_of_algebra() -> Iterator[None]:
    """One thread for the linear algebra of NumPy and SciPy, unless a call outside sees to it.

    Their threads spin while they wait, and no environment variable stops that: beside another busy
    process a product of 0.4 ms took 95 ms on two. OPENBLAS_NUM_THREADS is the user's word. The
    number is the whole process's: who has set it puts it back, though others are still at work.
    """
    if os.environ.get("OPENBLAS_NUM_THREADS") or not _algebra.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        _algebra.release()


@cache
def _libraries() -> Any:
    """What sets the threads of the libraries of linear algebra; finding them takes 2 ms."""
    import scipy.linalg  # noqa: F401, so that its library is among them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def is_told() -> bool:
    """True where the user has said how many threads there shall be."""
    return any(os.environ.get(name) for name in TOLD)


def tell_threads(count: int | None) -> None:
    """Have this process use exactly so many threads; None: as many as pay."""
    if count is not None:
        os.environ[TOLD[0]] = str(count)
        torch.set_num_threads(count)


def pass_work(network: torch.nn.Module, rows: int) -> float:
    """About the multiply-adds of a forward pass of so many rows, or pixels of a convolution."""
    return float(rows * sum(weight.numel() for weight in network.parameters()))


def _one_thread_after_fork() -> None:
    """A forked child has no OpenMP threads, and waits for them for ever if it asks for several."""
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_one_thread_after_fork)


IMPORTED = "keyhole"  # the module and the command
DISTRIBUTION = "keyhole-ae"  # on the package index `keyhole` is another project's name


def install_command(*extras: str, upgrade: bool = False) -> str:
    """The command that installs this package with these extras.

    Where it is installed already, pip adds what the extras need and asks no index for keyhole.
    """
    if upgrade:
        return f"pip install --upgrade {DISTRIBUTION}"
    return f'pip install "{DISTRIBUTION}[{",".join(extras)}]"'


def missing_extra(library: str, purpose: str, extra: str) -> MissingExtraError:
    """The error for an optional library that is not installed; `purpose` completes "needed to"."""
    return MissingExtraError(
        f"{library} is not installed, and is needed to {purpose}: {install_command(extra)}"
    )


def version_of(package: str) -> str:
    """The version of an installed package, or "unknown"; keyhole's own is the one that runs."""
    if package in {IMPORTED, DISTRIBUTION}:
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
