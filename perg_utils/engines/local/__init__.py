"""Models whose weights this machine loads, with transformers.

`engine` is the way in; `machine` knows the processor, `checkpoint` loads weights and renders chats, `scheduling` says
what runs together, `decoding` is the running batch on a CPU, `prefixes` finds the beginnings that prompts share,
`adapters` finds LoRA adapters and puts them onto weights, `memory` says how many rows fit, `speed` measures a model
before it is loaded.
"""
