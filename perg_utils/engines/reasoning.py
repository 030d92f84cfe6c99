"""Splitting a thinking model's reasoning from its reply, for every engine alike."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_reasoning(text: str, *, opened: bool = False) -> tuple[str | None, str]:
    """Return (reasoning or None, content), both stripped, e.g. `("so B", "B.")` of `<think>so B</think> B.`.

    `opened`: the prompt already ended inside the thinking. Thinking that was never closed (cut at the length limit)
    leaves empty content.
    """
    before, closed, content = text.rpartition(CLOSE)
    if closed:
        reasoning = before
    elif opened:
        reasoning, content = text, ""
    else:
        reasoning = ""
    if content.lstrip().startswith(OPEN):  # thinking (again), and not closed
        reasoning, content = reasoning + content, ""
    reasoning = reasoning.replace(OPEN, "").replace(CLOSE, "").strip()
    return reasoning or None, content.strip()


def ends_inside_thinking(prompt: str) -> bool:
    """Whether a rendered prompt leaves the model inside an open thinking block, e.g. true for `...<think>\\n`."""
    return prompt.rfind(OPEN) > prompt.rfind(CLOSE) and prompt.rstrip().endswith(OPEN)
