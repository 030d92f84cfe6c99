"""Prompts that begin alike: found by sorting, so that their common beginning is read once, not once a row.

The arms of a study show the same question: they have most of their tokens in common, and worked examples are common to
a whole source. `families` is for a running batch, in which every prompt may have its own beginning; `groups` for one
that has a single beginning for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

#: The shortest beginning worth sharing, in tokens, and the fewest prompts that share it.
SHORTEST, FEWEST = 32, 8


class Family(NamedTuple):
    """Prompts whose first `shared` tokens are the same; `members` are positions among the prompts."""

    shared: int
    members: list[int]


def groups(prompts: Sequence[list[int]], members: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return (length of the common beginning or 0, members), every member once, e.g. `[(155, [4, 0, ...]), (0, [7])]`.

    A beginning leaves at least one token of every prompt to be read.
    """
    ordered = sorted(members, key=lambda index: prompts[index])
    runs: list[list[int]] = []
    for index in ordered:
        if runs and _common(prompts[runs[-1][-1]], prompts[index]) >= SHORTEST:
            runs[-1].append(index)
        else:
            runs.append([index])
    shared, others = [], []
    for run in runs:
        # In sorted order the first and the last differ earliest.
        length = min(_common(prompts[run[0]], prompts[run[-1]]), min(len(prompts[index]) for index in run) - 1)
        if len(run) >= FEWEST and length >= SHORTEST:
            shared.append((length, run))
        else:
            others += run
    return shared + ([(0, others)] if others else [])


def families(prompts: Sequence[list[int]], members: Sequence[int], most: int = 64) -> list[Family]:
    """Return the members in families of at most `most`, so that the fewest tokens are read; longest prompts first.

    In sorted order prompts that begin alike are neighbours, and a family is a run of them: k prompts with s tokens in
    common save (k - 1) * s. A beginning leaves at least one token of every prompt to be read. E.g. three prompts on
    each of two questions, of which all share 30 tokens and those on a question 120: two families of three.
    """
    order = sorted(members, key=lambda index: prompts[index])
    common = [0] + [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    saved, begin = [0] * (len(order) + 1), [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        shared = len(prompts[order[end - 1]]) - 1
        saved[end], begin[end] = saved[end - 1], end - 1
        for start in range(end - 2, max(end - most, 0) - 1, -1):
            shared = min(shared, common[start + 1], len(prompts[order[start]]) - 1)
            if shared == 0:
                break
            if saved[start] + (end - start - 1) * shared > saved[end]:
                saved[end], begin[end] = saved[start] + (end - start - 1) * shared, start
    out, end = [], len(order)
    while end:
        run = order[begin[end] : end]
        first, last = prompts[run[0]], prompts[run[-1]]  # in sorted order these differ earliest
        out.append(Family(min(_common(first, last), min(len(prompts[index]) for index in run) - 1), run))
        end = begin[end]
    return sorted(out, key=lambda family: -max(len(prompts[index]) for index in family.members))


def _common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
