"""Runs scripts as programs of their own that need not import large libraries anew."""

import json
import subprocess
import sys
from contextlib import contextmanager

# pandas and polars are no dependency: an import of them fails as where they are not installed.
WITHOUT_FRAMES = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_others(name, path=None, target=None):
    absent = name.partition(".")[0] in {"pandas", "polars", "modin"}
    return None if absent else find(name, path, target)

PathFinder.find_spec = find_others
"""

SERVER = """
import importlib, json, os, runpy, sys, traceback

LIBRARIES = (
    "torch", "scipy.stats", "sklearn.datasets", "sklearn.linear_model", "pyarrow.csv",
)
for name in LIBRARIES:
    importlib.import_module(name)
import keyhole
for name in dir(keyhole):
    getattr(keyhole, name)


def run(folder):
    os.chdir(folder)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY
        os.dup2(os.open(f"script.{name}", flags), descriptor)
    sys.stdin = os.fdopen(0)
    code = 1
    try:
        runpy.run_path("script.py", run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


for line in sys.stdin:
    child = os.fork() or run(json.loads(line))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def script_runner(environment):
    """A function that runs Python code in a folder, without pandas and with warnings as errors.

    Each script is a fork of one process that has imported torch and this package. So nothing that
    a script registers is there for the next.
    """
    command = [sys.executable, "-W", "error", "-c", WITHOUT_FRAMES + SERVER]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(code, folder, stdin=""):
            (folder / "script.py").write_text(code)
            (folder / "script.stdin").write_text(stdin)
            print(json.dumps(str(folder)), file=server.stdin, flush=True)
            returncode = int(server.stdout.readline())
            output = [(folder / f"script.{name}").read_text() for name in ("stdout", "stderr")]
            return subprocess.CompletedProcess(code, returncode, *output)

        yield run
        server.stdin.close()
