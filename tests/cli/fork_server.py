"""Runs `bhk` command lines, each in a process of its own, without the seconds that importing torch takes for each.

Reads one JSON object a line from stdin: argv, cwd, stdout, stderr (paths), environment, file_size and memory (limits in
bytes, the second beyond what Python and torch have taken; or null). Writes "started" and the process id when the process is
there, and "ended" and its exit status (negative: the signal that ended it) when it has ended.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import sys
import traceback
from typing import NoReturn

import bhk.tasks
from bhk.base.errors import BhkError
from bhk.cli.app import app, main

PACKAGES = ("matplotlib.backends.backend_agg", "rich.progress", "segment_anything", "typer.rich_utils")
for task in pkgutil.iter_modules(bhk.tasks.__path__, "bhk.tasks."):
    importlib.import_module(task.name)
for package in PACKAGES:
    with contextlib.suppress(ImportError):
        importlib.import_module(package)
with contextlib.suppress(BhkError):
    app(["inspect", ""], standalone_mode=False)  # imports what typer imports when it is needed


def become(call: dict) -> None:
    """Turn this process into one that a shell would have started."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, call["stdout"], os.O_WRONLY),
        (2, call["stderr"], os.O_WRONLY),
    ):
        os.dup2(os.open(path, flags), number)
    os.chdir(call["cwd"])
    os.environ.update(call["environment"])
    if call["file_size"] is not None:
        limit("RLIMIT_FSIZE", call["file_size"])
    if call["memory"] is not None:
        with open("/proc/self/statm") as status:
            limit("RLIMIT_AS", int(status.read().split()[0]) * os.sysconf("SC_PAGE_SIZE") + call["memory"])
    # What Python would have made of them at its start.
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    sys.stderr.reconfigure(line_buffering=True)
    sys.argv = ["bhk", *call["argv"]]


def limit(name: str, value: int) -> None:
    """Set a limit of the system for this process."""
    import resource

    resource.setrlimit(getattr(resource, name), (value, resource.RLIM_INFINITY))


def end_as_python_does() -> NoReturn:
    """Run `main` and end, but without taking all of torch to pieces first, which takes a second."""
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
    process = os.fork()
    if not process:
        become(json.loads(line))
        end_as_python_does()
    print("started", process, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
