"""Does a fit choose a good number of threads, alone and next to other busy processes?

    python -m benchmarks.threads [--rounds 3]

There are three fits (a small net, a large net, a denoiser), each with the default, one and two
threads. They run in processes of their own, in turn, next to zero, one and two busy processes. The
time is the shortest of the rounds. Bar: the default takes at most 1.2 times the best fixed number.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.common import emit
from keyhole import Autoencoder, Denoiser, TrainingConfig
from keyhole.nets import MLP

SETTINGS = {"default": None, "1": "1", "2": "2"}
WORKERS_SPIN = (0, 1, 2)
MOST_RATIO = 1.2
TOLD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
SPIN = "while True: pass"


def small() -> None:
    rows = np.random.default_rng(0).normal(size=(600, 8))
    Autoencoder(training=TrainingConfig(60), random_state=0).fit(rows)


def large() -> None:
    rows = np.random.default_rng(0).normal(size=(1_500, 60))
    training = TrainingConfig(4, batch=512, members=1)
    Autoencoder(net=MLP([1024, 1024]), training=training, random_state=0).fit(rows)


def denoise() -> None:
    rng = np.random.default_rng(0)
    clean = np.cumsum(np.cumsum(rng.normal(size=(64, 64)), 0), 1)
    noisy = clean / clean.std() * 5 + rng.normal(size=clean.shape)
    Denoiser(training=TrainingConfig(3, batch=8, patience=None), noise=1.0, random_state=0).fit(
        noisy
    )


WORK: dict[str, Callable[[], None]] = {"small": small, "large": large, "denoise": denoise}


def serve() -> None:
    """Run what each line of standard input names, once before it counts, and print its seconds."""
    for work in WORK.values():
        work()
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        WORK[line.strip()]()
        print(time.perf_counter() - began, flush=True)


def server(threads: str | None) -> subprocess.Popen[str]:
    """A process that fits at this number of threads."""
    env = {name: value for name, value in os.environ.items() if name not in TOLD}
    if threads is not None:
        env |= dict.fromkeys(TOLD, threads)
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.threads", "--serve"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str], text: str = "") -> str:
    """The next line of a process, after it was sent one."""
    assert process.stdin is not None
    assert process.stdout is not None
    if text:
        process.stdin.write(f"{text}\n")
        process.stdin.flush()
    return process.stdout.readline().strip()


def measure(rounds: int) -> bool:
    """Print a line for each fit and load; True where all reached the bar."""
    servers = {name: server(threads) for name, threads in SETTINGS.items()}
    reached = True
    try:
        for process in servers.values():
            answer(process)
        for spinning in WORKERS_SPIN:
            spinners = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(spinning)]
            try:
                for work in WORK:
                    times: dict[str, list[float]] = {name: [] for name in servers}
                    for _ in range(rounds):
                        for name, process in servers.items():
                            times[name].append(float(answer(process, work)))
                    least = {name: min(found) for name, found in times.items()}
                    ratio = least["default"] / min(least["1"], least["2"])
                    reached = reached and ratio <= MOST_RATIO
                    emit("threads", fit=work, busy_processes=spinning, seconds=least,
                         ratio=ratio, bar=f"at most {MOST_RATIO}")  # fmt: skip
            finally:
                for spinner in spinners:
                    spinner.kill()
    finally:
        for process in servers.values():
            process.kill()
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true")
    given = parser.parse_args()
    if given.serve:
        serve()
    else:
        sys.exit(0 if measure(given.rounds) else 1)


if __name__ == "__main__":
    main()
