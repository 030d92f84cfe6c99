"""Run one notebook through papermill with the kernel of this very environment, and say plainly what went wrong.

The executed copy is saved after every cell, so that it is there also when the notebook fails. The progress of a cell
is passed on and not kept there; what the notebook prints stays in the copy. Leaves out: which notebooks to run, and
when (`pipeline`).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
import traitlets
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException, PapermillExecutionError

from perg_utils.core.errors import PergError
from perg_utils.core.interrupts import first_interrupt
from perg_utils.core.progress import MIME

#: Lines of a traceback worth repeating on the terminal; the executed notebook holds all of it.
TRACEBACK_LINES = 6
#: Called with each `Progress.state` of a running notebook.
Show = Callable[[Mapping[str, Any]], None]
_DISPLAYS = {"display_data", "update_display_data"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class StepFailed(PergError):
    """A notebook ended with an error; the message names notebook, cell and error. `step`: whose, of several at once."""

    step: str | None = None


class OwnKernelManager(AsyncKernelManager):
    """Starts this interpreter, whatever kernelspecs are (or are not) registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The command of a kernel: `sys.executable -m ipykernel_launcher`."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        encryption = {"supported_encryption": "curve"}
        return KernelSpec(argv=argv, language="python", display_name="Python 3", metadata=encryption)

    @traitlets.default("transport_encryption")
    def _encrypt_where_possible(self) -> str:
        # The channel is local TCP: other users of the machine could listen in.
        return "auto" if zmq.has("curve") else "disabled"


#: The client of each notebook that is being run, by its executed copy.
_running: dict[Path, _Client] = {}


class _Client(PapermillNotebookClient):
    """Takes progress out of what a kernel says: it is shown, and not kept in the executed copy."""

    show = traitlets.Callable()

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        state = msg["content"].get("data", {}).get(MIME) if msg["msg_type"] in _DISPLAYS else None
        if state is None:
            return super().process_message(msg, cell, cell_index)
        self.show(state)
        return None


class _Engine(NBClientEngine):
    """papermill's own way of running a notebook, but for the client."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        show: Show,
        copy: Path,
        start_timeout: int,
        shutdown_kernel: str,
        **_: Any,
    ) -> Any:
        client = _running[copy] = _Client(
            nb_man,
            show=show,
            kernel_name=kernel_name,
            kernel_manager_class=OwnKernelManager,
            startup_timeout=start_timeout,
            shutdown_kernel=shutdown_kernel,
        )
        try:
            return client.execute()
        finally:
            del _running[copy]


def execute(notebook: Path, executed: Path, parameters: dict[str, Any], cwd: Path, show: Show) -> None:
    """Run `notebook` in `cwd`, save the run as `executed`, and pass each `Progress.state` in it to `show`.

    Parameters keep their Python types: the string "007" stays a string.
    Raises `StepFailed` with cell number, first line of the cell and the error. The first Ctrl-C is passed on to the
    running cell, which may end in good order (requests in flight are kept); the second ends all at once.
    """
    with first_interrupt(lambda: _interrupted(executed)) as interrupted:
        try:
            execute_in_thread(notebook, executed, parameters, cwd, show)
        except StepFailed as error:
            if interrupted.is_set():
                raise KeyboardInterrupt from error
            raise
    if interrupted.is_set():
        raise KeyboardInterrupt


def _interrupted(executed: Path) -> str:
    if not interrupt(executed):
        raise KeyboardInterrupt  # nothing is running that could hear of it: break in at once
    return "the running cell ends in good order"


def interrupt(executed: Path) -> bool:
    """Interrupt the running cell of a notebook, from any thread; false where none is running."""
    client = _running.get(executed)
    pid = None if client is None or client.km is None else getattr(client.km.provisioner, "pid", None)
    if pid is None or '"status": "running"' not in executed.read_text(encoding="utf-8"):
        return False
    os.kill(pid, signal.SIGINT)
    return True


def execute_in_thread(notebook: Path, executed: Path, parameters: dict[str, Any], cwd: Path, show: Show) -> None:
    """Do what `execute` does but for Ctrl-C, which the main thread passes on (`interrupt`)."""
    executed.parent.mkdir(parents=True, exist_ok=True)
    papermill_engines.register("perg", _Engine)
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            engine_name="perg",
            cwd=cwd,
            progress_bar=False,
            start_timeout=120,
            shutdown_kernel="immediate",  # all is on disk by then, and a kernel cut off in a cell has nothing to say
            show=show,
            copy=executed,
        )
    except PapermillExecutionError as error:
        raise StepFailed(_describe(error, executed)) from error
    except DeadKernelError as error:
        raise StepFailed("its Python process died; most often the machine ran out of memory") from error
    except (PapermillException, RuntimeError) as error:
        raise StepFailed(f"could not be run: {error}") from error


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
