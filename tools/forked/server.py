"""Runs `bhk` command lines in forked processes, so that torch is imported once and not for each of them.

Reads one JSON object per line from stdin: argv, cwd, stdout and stderr (paths), environment, file_size and memory (limits in
bytes or null; the memory counts beyond what Python and torch use already), and fault (the arguments of `fault_arm` in faults.c
after the folder, or null). Starts a process and writes "started" and its id. Several may run at once.

For an object with the id of a process as "wait", it waits for that process, and writes "ended", its exit status (negative for a
signal) and how many operations of each kind were counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import traceback
from typing import NoReturn

import bhk.tasks
from bhk.base.errors import BhkError
from bhk.cli.app import app
from bhk.cli.main import main

PACKAGES = ("matplotlib.backends.backend_agg", "rich.progress", "segment_anything", "typer.rich_utils")
for task in pkgutil.iter_modules(bhk.tasks.__path__, "bhk.tasks."):
    importlib.import_module(task.name)
for package in PACKAGES:
    with contextlib.suppress(ImportError):
        importlib.import_module(package)
with contextlib.suppress(BhkError):
    app(["inspect", ""], standalone_mode=False)  # typer imports more when it runs


KINDS = 13  # as in faults.c
PRELOADED = ctypes.CDLL(None) if "LD_PRELOAD" in os.environ else None
if PRELOADED:
    PRELOADED.fault_count.restype = ctypes.c_long
    PRELOADED.fault_arm.argtypes = (ctypes.c_char_p, ctypes.c_uint, ctypes.c_long, ctypes.c_long, ctypes.c_int)


def become(call: dict) -> None:
    """Make this process look as if a shell had started it."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, call["stdout"], os.O_WRONLY),
        (2, call["stderr"], os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags), number)
    os.chdir(call["cwd"])
    os.environ.update(call["environment"])
    tempfile.tempdir = None
    if call["file_size"] is not None:
        limit("RLIMIT_FSIZE", call["file_size"])
    if call["memory"] is not None:
        with open("/proc/self/statm") as status:
            limit("RLIMIT_AS", int(status.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + call["memory"])
    # As Python sets them up when it starts.
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    sys.stderr.reconfigure(line_buffering=True)
    for stream in (sys.stdout, sys.stderr) if "PYTHONIOENCODING" in os.environ else ():
        stream.reconfigure(encoding=os.environ["PYTHONIOENCODING"])
    sys.argv = ["bhk", *call["argv"]]
    if call["fault"] is not None:
        PRELOADED.fault_arm(os.fsencode(call["cwd"]), *call["fault"])


def limit(name: str, value: int) -> None:
    """Set a system limit for this process."""
    import resource

    resource.setrlimit(getattr(resource, name), (value, resource.RLIM_INFINITY))


def end_as_python_does() -> NoReturn:
    """Run `main` and exit, without the second that torch needs to clean up."""
    try:
        main()
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


gc.freeze()
for line in sys.stdin:
    call = json.loads(line)
    if "wait" in call:
        status = os.waitstatus_to_exitcode(os.waitpid(call["wait"], 0)[1])
        counts = [PRELOADED.fault_count(kind) for kind in range(KINDS)] if PRELOADED else []
        print("ended", status, *counts, flush=True)
    elif process := os.fork():
        print("started", process, flush=True)
    else:
        become(call)
        end_as_python_does()
