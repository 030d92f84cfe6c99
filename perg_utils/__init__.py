"""PERG: does a language model stay right when it is asked to please a user? (arXiv 2509.19358).

    import perg_utils as perg

    run = perg.open_run("demo")     # a profile's name or file
    run.read("scores")              # any table, as a DataFrame
    perg.figures.scatter(run)       # draws itself in a notebook
    perg.tables.main(run)           # shows itself, too

The names of `__all__` are the public way in; the rooms behind them may change. Importing this imports nothing else:
each name is fetched when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perg_utils.core.loading import load_profile
    from perg_utils.core.run import Run, open_run
    from perg_utils.extraction.answers import extract_answer
    from perg_utils.reporting import figures, tables
    from perg_utils.scoring.comparisons import compare
    from perg_utils.scoring.rates import metrics
    from perg_utils.scoring.scores import score

__version__ = "0.1.0"

__all__ = [
    "Run",
    "compare",
    "extract_answer",
    "figures",
    "load_profile",
    "metrics",
    "open_run",
    "score",
    "tables",
]

#: Where each public name lives: a module and a name in it, or a module.
_HOMES = {
    "Run": "core.run",
    "compare": "scoring.comparisons",
    "extract_answer": "extraction.answers",
    "figures": "",
    "load_profile": "core.loading",
    "metrics": "scoring.rates",
    "open_run": "core.run",
    "score": "scoring.scores",
    "tables": "",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'perg_utils' has no attribute '{name}'; public are: {', '.join(__all__)}")
    home = _HOMES[name]
    value = (
        getattr(import_module(f"perg_utils.{home}"), name) if home else import_module(f"perg_utils.reporting.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
