"""Seeds and random numbers, processor threads, and how this package is installed.

Threads that share a small step wait for each other more than they work: beside another busy
process a step of 9 ms took 110 to 500 ms on two threads. The number of threads depends on the
size of the work alone, never on a clock, because rounding, and so a model's bits, depend on it.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib import metadata
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils import check_random_state

from keyhole import __version__
from keyhole.errors import MissingExtraError, SettingError

T = TypeVar("T")
R = TypeVar("R")


def seed_from(random_state: Any) -> int:
    """A seed, random for None, else reproducible. Raises: SettingError for an invalid state."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as fault:
        raise SettingError(
            f"random_state={random_state!r:.60}: give a whole number, None, or a "
            "numpy.random.RandomState"
        ) from fault


def hash_of(seed: int, step: int) -> int:
    """A seed for one step, unlike that of any other: SplitMix64 (Steele et al. 2014)."""
    x = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % (1 << 64)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % (1 << 64)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % (1 << 64)
    return x ^ (x >> 31)


def draws(keys: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each uint64 key: SplitMix64's finaliser."""
    x = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % (1 << 64))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53


PASS_ROWS = 4_096  # of a forward pass; the results of more fall out of the processor's cache
PASS_FEATURES = 1 << 18  # of a pass of wide rows
PAYS = 5e10  # multiply-adds of a step that keep one thread busy: measured, see benchmarks.threads
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # set by the user, or by --threads

# The threads of the caller of the outermost `threads_for`.
_limit: ContextVar[int | None] = ContextVar("limit", default=None)


@contextmanager
def threads_for(multiply_adds: float) -> Iterator[None]:
    """Torch's threads for steps of this size; the caller's number is restored.

    At most as many as torch has; exactly as many if OMP_NUM_THREADS or --threads is set.
    NumPy's and SciPy's linear algebra has one thread meanwhile.
    """
    before, limit = torch.get_num_threads(), _limit.get()
    limit = before if limit is None else limit
    fixed = any(os.environ.get(name) for name in THREAD_VARIABLES)
    count = limit if fixed else int(min(max(multiply_adds // PAYS, 1), limit))
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
    """One thread for the linear algebra of NumPy and SciPy, unless an outer call has set it.

    Their threads spin while they wait, and no environment variable stops that: beside another busy
    process a product of 0.4 ms took 95 ms on two. OPENBLAS_NUM_THREADS takes precedence. The
    setting is global: the call that set it restores it, even if others are still running.
    """
    if os.environ.get("OPENBLAS_NUM_THREADS") or not _algebra.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1, user_api="blas"):
            yield
    finally:
        _algebra.release()


def side_by_side(work: Callable[[T], R], parts: Iterable[T]) -> Iterator[R]:
    """The results of `work` in the order of the parts, which torch's threads do side by side.

    Each thread takes whole parts, and is the only one of its steps.
    Nets of tables are small: two blocks on a core each are answered sooner than one on both.
    """
    workers = torch.get_num_threads()
    if workers == 1:
        yield from map(work, parts)
        return
    waiting: deque[Future[R]] = deque()
    with (
        one_thread_of_algebra(),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > workers:  # one more, so that no thread waits for a slower one
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(workers)  # what threads start with


@cache
def _libraries() -> Any:
    """The libraries of linear algebra; finding them takes 2 ms."""
    import scipy.linalg  # noqa: F401, so that its library is among them
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def tell_threads(count: int | None) -> None:
    """Use exactly this number of threads in this process; None: as many as pay off."""
    if count is not None:
        os.environ[THREAD_VARIABLES[0]] = str(count)
        torch.set_num_threads(count)


def pass_work(network: torch.nn.Module, rows: int) -> float:
    """The approximate multiply-adds of a forward pass of these rows, or pixels."""
    return float(rows * sum(weight.numel() for weight in network.parameters()))


def rows_of_pass(features: int) -> int:
    """How many rows of so many features go through a net at once."""
    return max(min(PASS_ROWS, PASS_FEATURES // max(features, 1)), 1)


# A forked child has no OpenMP threads, and waits for them for ever if it uses several.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

DISTRIBUTION = "keyhole-ae"  # on the package index `keyhole` is another project's name


def install_command(*extras: str, upgrade: bool = False) -> str:
    """The command that installs this package with these extras, or upgrades it."""
    if upgrade:
        return f"pip install --upgrade {DISTRIBUTION}"
    return f'pip install "{DISTRIBUTION}[{",".join(extras)}]"'


def missing_extra(library: str, purpose: str, extra: str) -> MissingExtraError:
    """The error for an optional library that is not installed; `purpose` completes "needed to"."""
    return MissingExtraError(
        f"{library} is needed to {purpose}, but is not installed: {install_command(extra)}"
    )


def version_of(package: str) -> str:
    """The version of an installed package, or "unknown"; keyhole's own is the one that runs."""
    if package in {"keyhole", DISTRIBUTION}:
        return __version__
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


CGROUP_LIMIT, CGROUP_USED = "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"
UNKNOWN_MEMORY = 4 << 30  # assumed free where the system does not say


def free_memory() -> int:
    """Bytes of memory that this process may still take: of the machine, or of its container."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        free = 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return UNKNOWN_MEMORY
    # Without a container, or a limit, the files are missing or hold no number.
    with suppress(OSError, ValueError), open(CGROUP_LIMIT) as limit, open(CGROUP_USED) as used:
        free = min(free, int(limit.read()) - int(used.read()))
    return max(free, 0)
