"""How light the library is: `--help`, import, and what it installs with torch and scikit-learn.

Bars: `--help` in 0.4 s. Import in 0.3 s more than torch and scikit-learn, without pyarrow,
matplotlib, rich or click. At most 300 MB and 20 packages besides torch and scikit-learn.
"""

import re
import subprocess
import sys
import time
from importlib import metadata

from benchmarks.common import emit

BASE = ("torch", "scikit-learn", "numpy", "scipy", "safetensors")
ROUNDS = 5


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def best(command: list[str]) -> float:
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        found.append(time.perf_counter() - began)
    return min(found)


def tree(names: tuple[str, ...]) -> set[str]:
    """The installed packages that these need, themselves included."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        todo += [re.split(r"[ ;<>=!~\[(]", need)[0] for need in needs if "extra ==" not in need]
    return found


def megabytes(names: set[str]) -> float:
    files = [file.locate() for name in names for file in metadata.files(name) or []]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def main() -> None:
    parts = "import time, torch, sklearn.base, sklearn.utils.validation; t = time.perf_counter(); "
    after = "; print(time.perf_counter() - t)"
    bare = min(float(run(f"{parts}import keyhole{after}")) for _ in range(ROUNDS))
    whole = min(
        float(run(f"{parts}from keyhole import Autoencoder, AnomalyDetector{after}"))
        for _ in range(ROUNDS)
    )
    heavy = "['pyarrow', 'matplotlib', 'rich', 'click', 'pandas', 'polars']"
    loaded = run(f"import sys, keyhole; print([m for m in {heavy} if m in sys.modules])")
    # scikit-learn itself loads pandas and rich where they are installed.
    beyond = run(
        "import sys, torch, sklearn.base, sklearn.decomposition; before = set(sys.modules); "
        "from keyhole import Autoencoder, AnomalyDetector; "
        f"print([m for m in {heavy} if m in set(sys.modules) - before])"
    )
    more = tree(("keyhole",)) - tree(BASE) - {"keyhole"}
    emit(
        "footprint",
        help_seconds=best([sys.executable, "-m", "keyhole", "--help"]),
        import_seconds=bare,
        import_estimators_seconds=whole,
        loaded_by_import=loaded,
        loaded_by_estimators_beyond_scikit_learn=beyond,
        packages=sorted(more),
        package_count=len(more),
        megabytes=megabytes(more),
        bar="0.4 s, 0.3 s, none, 20 packages, 300 MB",
    )


if __name__ == "__main__":
    main()
