"""Engines: where replies come from. A batch of chat requests goes in, replies come out as they finish.

`base` says what every engine takes and gives, `open` makes the one that a profile's model asks for, `journal` keeps
each reply so that nothing is asked twice (`journal_tools` counts, exports, drops and joins), `reasoning` tells thinking
from reply, `schemas` holds replies to a JSON schema where a server can, `watching` shows how far it is. `api/` holds
models behind a server, `local/` models whose weights this machine loads.
"""
