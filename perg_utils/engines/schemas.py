"""Replies held to a JSON schema, where the server takes one: found out with the first request, and remembered.

A request that carries a schema has a key of its own, and the journal keeps the schema with what was sent. Engines that
run in this process hold nothing to a schema; their requests go without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from perg_utils.core.schema import Status
from perg_utils.engines.base import Engine, EngineError, Request
from perg_utils.engines.journal import Journal

#: What a server says that does not take a schema.
_REFUSED = re.compile(r"response.?format|json.?schema|structured.?output|guided|grammar", re.IGNORECASE)


def held(journal: Journal, engine: Engine, requests: Sequence[Request], *, certain: bool = False) -> list[Request]:
    """Return `requests` as they are if the engine holds replies to their schemas, else without these.

    One request is asked to find out, unless `certain`. Errors that are about something else pass through.
    """
    first = next((request for request in requests if request.schema is not None), None)
    if first is None or (takes(engine) and (certain or _willing(journal, engine, first))):
        return list(requests)
    return [replace(request, schema=None) for request in requests]


def takes(engine: Engine) -> bool:
    """Return whether the engine can be asked with a schema at all."""
    return engine.identity.get("kind") != "transformers"


def _willing(journal: Journal, engine: Engine, first: Request) -> bool:
    try:
        [reply] = journal.ask(engine, [first])
        said = reply.error or "" if reply.status in {Status.API_ERROR, Status.REJECTED} else ""
    except EngineError as error:
        if not _REFUSED.search(str(error)):
            raise
        return False
    return not _REFUSED.search(said)
