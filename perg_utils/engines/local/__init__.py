"""Models whose weights this machine loads, with transformers.

`engine` is the way in; `checkpoint` loads weights and renders chats, `scheduling` makes batches, `prefixes`
finds the beginnings that prompts share, `memory` says how many rows fit.
"""
