"""Run one notebook through papermill with the kernel of this very environment, and say plainly what went wrong.

The executed copy is saved after every cell, so that it is there also when the notebook fails. What the
notebook prints is passed on line by line. Leaves out: which notebooks to run, and when (`pipeline`).
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillException, PapermillExecutionError
from traitlets import default

from perg_utils.core.errors import PergError
from perg_utils.core.interrupts import first_interrupt

#: Lines of a traceback worth repeating on the terminal; the executed notebook holds all of it.
TRACEBACK_LINES = 6
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StepFailed(PergError):
    """A notebook ended with an error; the message names notebook, cell and error."""


class OwnKernelManager(AsyncKernelManager):
    """Starts this interpreter, whatever kernelspecs are (or are not) registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command of a kernel: `sys.executable -m ipykernel_launcher`."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        encryption = {"supported_encryption": "curve"}
        return KernelSpec(argv=argv, language="python", display_name="Python 3", metadata=encryption)

    @default("transport_encryption")
    def _encrypt_where_possible(self) -> str:
        # The channel is local TCP: other users of the machine could listen in.
        return "auto" if zmq.has("curve") else "disabled"


class _Lines:
    """A file-like object that hands complete lines to `show`."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.show, self._rest = show, ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self.show(line)

    def flush(self) -> None:
        """Nothing to do: a line is shown once it is complete."""

    def close(self) -> None:
        if self._rest:
            self.write("\n")


def execute(notebook: Path, executed: Path, parameters: dict[str, Any], cwd: Path, show: Callable[[str], None]) -> None:
    """Run `notebook` in `cwd`, save the run as `executed`, and pass each printed line to `show`.

    Parameters keep their Python types: the string "007" stays a string.
    Raises `StepFailed` with cell number, first line of the cell and the error. The first Ctrl-C is passed on to the
    running cell, which may end in good order (requests in flight are kept); the second ends all at once.
    """
    with first_interrupt(lambda: _interrupt(executed)) as interrupted:
        try:
            _execute(notebook, executed, parameters, cwd, show)
        except StepFailed as error:
            if interrupted.is_set():
                raise KeyboardInterrupt from error
            raise
    if interrupted.is_set():
        raise KeyboardInterrupt


def _interrupt(executed: Path) -> str:
    """Interrupt the running cell; where none is running a kernel would not hear of it, so break in at once."""
    kernels = [child for child in psutil.Process().children() if "ipykernel_launcher" in child.cmdline()]
    if not kernels or '"status": "running"' not in executed.read_text(encoding="utf-8"):
        raise KeyboardInterrupt
    for kernel in kernels:
        kernel.send_signal(signal.SIGINT)
    return "what is under way ends"


def _execute(
    notebook: Path, executed: Path, parameters: dict[str, Any], cwd: Path, show: Callable[[str], None]
) -> None:
    executed.parent.mkdir(parents=True, exist_ok=True)
    lines = _Lines(show)
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=cwd,
            progress_bar=False,
            stdout_file=lines,
            start_timeout=120,
            shutdown_kernel="immediate",  # all is on disk by then, and a kernel cut off in a cell has nothing to say
            kernel_manager_class=OwnKernelManager,
        )
    except PapermillExecutionError as error:
        raise StepFailed(_describe(error, executed)) from error
    except DeadKernelError as error:
        raise StepFailed("its Python process died; most often the machine ran out of memory") from error
    except (PapermillException, RuntimeError) as error:
        raise StepFailed(f"could not be run: {error}") from error
    finally:
        lines.close()


def _describe(error: Any, executed: Path) -> str:
    """Cell and error of a failed notebook; a `PergError` is shown without its traceback."""
    first = next((line.strip() for line in error.source.splitlines() if line.strip()), "")
    where = f"cell {_cell_number(executed)}: {first}"
    lines = [_COLOUR.sub("", line) for entry in error.traceback for line in entry.splitlines() if line.strip()]
    # A PergError renders itself as name and message (errors.py); everything else starts with a ruler and has frames.
    if lines and lines[0].startswith(f"{error.ename}: "):
        return f"{where}\n{error.evalue}"
    return "\n".join([where, *lines[-TRACEBACK_LINES:]])


def _cell_number(executed: Path) -> int:
    """Number of the failed cell, from 1, as in the committed notebook (papermill adds cells to the executed one)."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = [
        cell for cell in nbformat.read(executed, as_version=4).cells if not added & set(cell.metadata.get("tags", []))
    ]
    failed = [i for i, cell in enumerate(cells, 1) if any(o.output_type == "error" for o in cell.get("outputs", []))]
    return failed[0]
