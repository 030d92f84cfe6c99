"""Models behind an OpenAI-compatible server.

`engine` is the way in. Chats go through `dispatch` (`endpoints`: servers and keys; `retries`: waits and time limits;
`health`: when a run must end), whole batches through `batch` and the `account` that holds them. `completions` is the
protocol of both, `pricing` what it costs.
"""
