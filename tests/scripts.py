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

LIBRARIES = ("torch", "scipy.stats", "sklearn.datasets", "sklearn.linear_model", "pyarrow.csv")
for name in LIBRARIES:
    importlib.import_module(name)
import keyhole
for name in dir(keyhole):
    getattr(keyhole, name)


def run(script):
    for descriptor, name in (1, "stdout"), (2, "stderr"):
        output = os.open(f"{script}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, descriptor)
    sys.stdin = open(os.devnull)
    os.chdir(os.path.dirname(script))
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
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
    """A function that runs Python code in a folder, without pandas, and returns what it printed.

    Each script is a fork of one process that has imported torch and this package. So nothing that
    a script registers is there for the next. Fails on a warning, and on another exit code than 0.
    """
    command = [sys.executable, "-W", "error", "-c", WITHOUT_FRAMES + SERVER]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:

        def run(code, folder):
            script = folder / "script.py"
            script.write_text(code)
            print(json.dumps(str(script)), file=server.stdin, flush=True)
            exit_code = server.stdout.readline().strip()
            assert exit_code == "0", (folder / "script.py.stderr").read_text()
            return (folder / "script.py.stdout").read_text()

        yield run
        server.stdin.close()
