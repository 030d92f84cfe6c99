"""Engines for tests: one replies with what it was asked, one with what a function says."""

from perg_utils.engines.base import Decoding, Reply, Request


def request(text):
    return Request((("user", text),), Decoding(8))


class Parrot:
    """Replies with the user's words, last request first, and remembers what it was asked."""

    def __init__(self, replies=None):
        self.identity = {"kind": "parrot", "model": "parrot-1"}
        self.asked = []
        self.replies = replies or {}

    def generate(self, requests):
        for index in reversed(range(len(requests))):
            text = requests[index].messages[-1][1]
            self.asked.append(text)
            reply = self.replies.get(text, Reply(text.upper(), finish_reason="stop", completion_tokens=3, seconds=0.5))
            if isinstance(reply, Exception):
                raise reply
            yield index, reply


class Says:
    """Replies with what `say` makes of a request, and remembers the requests."""

    def __init__(self, say):
        self.identity = {"kind": "says", "model": "says-1"}
        self.asked, self.say = [], say

    def generate(self, requests):
        for index, request in enumerate(requests):
            self.asked.append(request)
            yield index, Reply(self.say(request), finish_reason="stop")
