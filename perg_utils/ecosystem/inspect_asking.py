"""Inspect's models behind our methods: the same prompts, stages, fallbacks and decoding, another way of asking.

A method (`inference.methods`) is a plain function over two `Generate` calls, and depends on nothing but their replies.
Inspect's models are asked asynchronously. So a method is started; where it needs a reply that is not there yet it is
left, the reply is awaited, and it is started again with what is known by then: three times at most, for two stages.

Left out: holding second stages to a JSON schema (`ModelConfig.structured`), and the journal, for Inspect keeps its own
log and cache. Errors of a provider pass through: Inspect marks such a sample as failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
)

from perg_utils.core.profile import DecodingConfig, ModelConfig
from perg_utils.core.schema import Method, Status
from perg_utils.engines.base import Messages, Reply, Request, without_content
from perg_utils.engines.reasoning import split_reasoning
from perg_utils.inference.methods import METHODS, Answered, Chat, Generate, Outcome, Task
from perg_utils.inference.requests import request
from perg_utils.prompts.sets import PromptSet


class _Missing(Exception):
    """A method needs replies that are not there yet."""

    def __init__(self, model: Model, requests: list[Request]) -> None:
        super().__init__(f"{len(requests)} requests to {model}")
        self.model, self.requests = model, requests


@dataclass
class Asked:
    """One question's requests and replies; equal requests are made once, as a run's journal has it.

    `model` answers, `aligner` edits in Pref-Aligner (the same object where it is the same model); `as_config` stands
    for them where a limit depends on the model.
    """

    prompts: PromptSet
    decoding: DecodingConfig
    as_config: ModelConfig
    model: Model
    aligner: Model
    known: dict[tuple[str, Request], Answered] = field(default_factory=dict)

    async def outcome(self, method: Method, task: Task) -> Outcome:
        """Return what `method` makes of `task`; what the provider raises passes through."""
        while True:
            try:
                return METHODS[method](
                    [task], self.prompts, self._by(self.model, method), self._by(self.aligner, method)
                )[0]
            except _Missing as missing:
                for one in missing.requests:
                    reply = await ask(missing.model, one)
                    name = str(missing.model)
                    self.known[name, one] = Answered(reply, one.key({"kind": "inspect", "model": name}))

    def _by(self, model: Model, method: Method) -> Generate:
        def generate(chats: list[Chat], stage: int) -> list[Answered]:
            wanted = [request(chat, self.as_config, self.decoding, stage, method) for chat in chats]
            missing = [one for one in wanted if (str(model), one) not in self.known]
            if missing:
                raise _Missing(model, missing)
            return [self.known[str(model), one] for one in wanted]

        return generate


async def ask(model: Model, one: Request) -> Reply:
    """Return the reply of one of Inspect's models to a request of ours."""
    how = one.decoding
    config = GenerateConfig(max_tokens=how.max_new_tokens, temperature=how.temperature, seed=how.seed)
    return reply_of(await model.generate(turns(one.messages), config=config))


def turns(messages: Messages) -> list[ChatMessage]:
    """Return a chat of ours as Inspect's messages: a system turn, if there is one, and the user's."""
    return [
        ChatMessageSystem(content=content) if role == "system" else ChatMessageUser(content=content)
        for role, content in messages
    ]


def reply_of(output: ModelOutput) -> Reply:
    """Return Inspect's output as a reply of ours, with the status that says why there is no text.

    `rejected`: cut by a content filter, or a prompt that is too long; `silent`: nothing written up to the limit;
    `empty`: no content, and nobody knows why.
    """
    usage = output.usage
    read = None if usage is None else usage.input_tokens
    if usage is not None and read is not None:
        read += (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    written = None if usage is None else usage.output_tokens
    if output.empty:
        why = output.error or "the provider's output holds no choice"
        return Reply(None, Status.EMPTY, None, read, written, output.time, error=why)
    stop = output.stop_reason
    finish = "length" if stop == "max_tokens" else str(stop)
    if stop in ("content_filter", "model_length"):
        why = output.error or output.completion or str(stop)
        return Reply(None, Status.REJECTED, finish, read, written, output.time, error=why)
    thought, content = split_reasoning(output.message.text)
    status = Status.OK if content else without_content(finish)
    return Reply(content or None, status, finish, read, written, output.time, reasoning=thought, error=output.error)
