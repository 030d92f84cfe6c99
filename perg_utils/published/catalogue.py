"""Where a released row belongs: its position in the released dataset, verified by question, options and right answer.

The dataset's order is TruthfulQA, CommonsenseQA, MMLU, 7,208 positions. A file that claims a stretch of positions (a
chunk number, or simply the first row) is believed where its rows agree with what is known of these positions from the
dataset file, from chunks of one source, or from other files. A file that meets only unknown positions is believed
where its preferences go round as the paper assigns them, or its sources change where the dataset's do. Its rows then
make these positions known.

A row elsewhere (files merged or sorted by text) is placed only if it has exactly one possible position: that with the
same question, the same options in any order and the same right answer; of several such positions the one whose assigned
preference is the row's; and rows alike in all of this, of which there are as many as positions, in the file's order.
Any other row is not placed, and the reason kept. No position is given twice in a file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from perg_utils.core.schema import LETTERS
from perg_utils.dataset.questions import EXPECTED
from perg_utils.published.assignment import FIRST, SOURCE_AT, TOTAL, assigned, released_numbers, text_hash
from perg_utils.published.files import PublishedFile
from perg_utils.published.layouts import Layout, Rows, parse_options

#: Share of known positions that must agree before a stretch of positions is believed.
AGREEMENT = 0.9


#: Question, options in alphabetical order, text of the right answer.
Content = tuple[str, tuple[str, ...], str]


class Item(NamedTuple):
    """A question as one file gives it; `content` is the same whatever the order of the options."""

    content: Content
    options: tuple[str, ...]
    gold: int
    subject: str


def possible_starts(file: PublishedFile | None, layout: Layout, count: int, chunk_size: int) -> list[int]:
    """Return where a file of `count` rows may begin, most likely first; `chunk_size` is that of most siblings."""
    source = file.source if file is not None and layout is Layout.WIDE else None
    first, total = (0, TOTAL) if source is None else (FIRST[source], EXPECTED[source])
    chunk = None if file is None else file.chunk
    starts = [0] if chunk is None else [chunk * chunk_size, chunk * count, total - count]
    return [first + start for start in dict.fromkeys(starts) if 0 <= start <= total - count]


@dataclass(slots=True)
class Catalogue:
    """What is known of the 7,208 positions: questions, and the text of each source's preferences."""

    items: dict[int, Item] = field(default_factory=dict)
    positions: dict[Content, list[int]] = field(default_factory=lambda: defaultdict(list))
    texts: dict[tuple[str, int], str] = field(default_factory=dict)
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)  # texts that are none of the released, by id
    _asked: dict[str, set[Content]] = field(default_factory=lambda: defaultdict(set))
    _read: dict[tuple[str, str, str], Item | str] = field(default_factory=dict)
    _orders: dict[tuple[tuple[str, ...], int, int], str] = field(default_factory=dict)

    def locate(
        self, rows: Rows, starts: Iterable[int], trusted: bool = False
    ) -> tuple[list[int | None], dict[int, str]]:
        """Return the position of each row of `rows.frame` and, for those without, index in the frame -> reason.

        `trusted` files (the dataset, chunks of one source) need nothing beyond not contradicting what is known.
        """
        items = self._items(rows)
        sources, texts = rows.frame["source"].tolist(), rows.frame["preference"].tolist()
        offsets = rows.frame["row"].tolist()
        placed: list[int | None] = [None] * len(items)
        for start in starts:
            stretch = [start + offset for offset in offsets]
            if self._believable(items, stretch, sources, texts, trusted):
                self._fill(items, stretch, sources, placed)
                self._learn(stretch, texts, placed)
                break
        reasons = {i: item for i, item in enumerate(items) if isinstance(item, str)}
        self._match(items, sources, texts, placed, reasons)
        return placed, reasons

    def number(self, source: str, text: str) -> int | None:
        """Return the number that a preference's text has in a source, None where it is not one of the released."""
        return self.numbers.get((source, text)) or released_numbers().get((source, text_hash(text)))

    def source(self, question: str) -> str:
        """Return the source that has a question's text, "" where none has it."""
        position = next((self.positions[content][0] for content in self._asked.get(question.strip(), ())), None)
        return "" if position is None else SOURCE_AT[position]

    def order(self, question: str, options: str, gold: str, position: int) -> tuple[Item, str]:
        """Return a placed row's item and the canonical letters of its options in its own order, e.g. `BADC`.

        The canonical order is that of the file that made the position known. Of two equal options the right one is the
        right one in both orders.
        """
        item = self._read[question, options, gold]
        assert isinstance(item, Item)  # what cannot be read has no position
        found = self._orders.get((item.options, item.gold, position))
        if found is None:
            found = self._orders[item.options, item.gold, position] = _order(item, self.items[position])
        return item, found

    def _items(self, rows: Rows) -> list[Item | str]:
        frame = rows.frame
        subjects = frame["subject"].tolist()
        keys = zip(frame["question"].tolist(), frame["options"].tolist(), frame["gold"].tolist(), strict=True)
        return [self._item(key, subject) for key, subject in zip(keys, subjects, strict=True)]

    def _item(self, key: tuple[str, str, str], subject: str) -> Item | str:
        known = self._read.get(key)
        if known is None:
            known = self._read[key] = _item(*key, subject)
        return known

    def _believable(
        self, items: list[Item | str], stretch: list[int], sources: list[str], texts: list[str], trusted: bool
    ) -> bool:
        if stretch and stretch[-1] >= TOTAL:
            return False
        if any(source and source != SOURCE_AT[position] for source, position in zip(sources, stretch, strict=True)):
            return False
        known = [(item, self.items[p]) for item, p in zip(items, stretch, strict=True) if p in self.items]
        agreeing = sum(not isinstance(item, str) and item.content == other.content for item, other in known)
        if agreeing < AGREEMENT * len(known):
            return False
        return trusted or agreeing >= len(items) / 2 or _goes_round(stretch, texts) or len(set(sources) - {""}) > 1

    def _fill(self, items: list[Item | str], stretch: list[int], sources: list[str], placed: list[int | None]) -> None:
        for i, (item, position) in enumerate(zip(items, stretch, strict=True)):
            if isinstance(item, str):
                continue
            if position not in self.items:
                self.items[position] = item
                self.positions[item.content].append(position)
                self._asked[item.content[0]].add(item.content)
            if self.items[position].content == item.content:
                placed[i] = position

    def _learn(self, stretch: list[int], texts: list[str], placed: list[int | None]) -> None:
        """Take the usual text of each preference number from a file whose preferences go round."""
        if not _goes_round(stretch, texts):
            return
        usual: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        for position, text, found in zip(stretch, texts, placed, strict=True):
            if found is not None and text:
                usual[SOURCE_AT[position], assigned(position)][text] += 1
        for (source, number), counts in usual.items():
            text = counts.most_common(1)[0][0]
            self.texts.setdefault((source, number), text)
            self.numbers.setdefault((source, text), number)

    def _match(
        self,
        items: list[Item | str],
        sources: list[str],
        texts: list[str],
        placed: list[int | None],
        reasons: dict[int, str],
    ) -> None:
        """Place what no stretch of positions placed, by content; `reasons` gets those that cannot be."""
        used = {position for position in placed if position is not None}
        alike: dict[Content, list[int]] = defaultdict(list)
        for i, item in enumerate(items):
            if placed[i] is None and not isinstance(item, str):
                alike[item.content].append(i)
        for content, rows in alike.items():
            free = [position for position in self.positions.get(content, ()) if position not in used]
            free = [position for position in free if sources[rows[0]] in ("", SOURCE_AT[position])]
            for row, position in self._pair(rows, free, texts):
                placed[row] = position
            left = [row for row in rows if placed[row] is None]
            reasons.update(dict.fromkeys(left, self._why(content, len(free), len(rows))))

    def _pair(self, rows: Sequence[int], free: Sequence[int], texts: list[str]) -> list[tuple[int, int]]:
        """Rows of one content with their positions: by assigned preference, then, if as many are left, in order."""
        if len(free) == 1:
            return [(rows[0], free[0])]
        pairs, rows_left, free_left = [], [], list(free)
        for row in rows:
            fitting = [p for p in free_left if self.number(SOURCE_AT[p], texts[row]) == assigned(p)]
            if len(fitting) == 1:
                pairs.append((row, fitting[0]))
                free_left.remove(fitting[0])
            else:
                rows_left.append(row)
        if len(rows_left) == len(free_left):
            pairs += list(zip(rows_left, free_left, strict=True))
        return pairs

    def _why(self, content: Content, positions: int, rows: int) -> str:
        if content in self.positions:
            if positions < rows:
                return "another row of the file has the position of this question, options and right answer"
            return f"{positions} positions have this question, options and right answer, and nothing tells which"
        others = self._asked.get(content[0], set())
        if any(other[1] == content[1] for other in others):
            return "the gold option is another one than at this question's position"
        if others:
            return "the options differ from those at this question's position"
        return "no file that is in the dataset's order has this question"


def _goes_round(stretch: list[int], texts: list[str]) -> bool:
    """Whether every preference number of a source has its own text, as the paper assigns them."""
    seen: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for position, text in zip(stretch, texts, strict=True):
        if text:
            seen[SOURCE_AT[position], assigned(position)][text] += 1
    usual = [(source, counts.most_common(1)[0]) for (source, _), counts in seen.items()]
    total = sum(counts.total() for counts in seen.values())
    distinct = len({(source, text) for source, (text, _) in usual})
    return 1 < distinct == len(usual) and sum(n for _, (_, n) in usual) >= 0.99 * total


def _item(question: str, options: str, gold: str, subject: str) -> Item | str:
    """The question as the file gives it, or why it cannot be read."""
    try:
        parsed = parse_options(options)
    except ValueError as error:
        return str(error)
    letter = gold.strip()
    if not question.strip():
        return "the question is empty"
    if len(letter) != 1 or letter not in LETTERS[: len(parsed)]:
        return f"gold option '{letter[:20]}' names none of the {len(parsed)} options"
    index = LETTERS.index(letter)
    return Item((question.strip(), tuple(sorted(parsed)), parsed[index]), parsed, index, subject)


def _order(item: Item, canonical: Item) -> str:
    free = {i: text for i, text in enumerate(canonical.options) if i != canonical.gold}
    letters = []
    for i, text in enumerate(item.options):
        if i == item.gold:
            letters.append(LETTERS[canonical.gold])
        else:
            j = next(j for j, other in free.items() if other == text)
            del free[j]
            letters.append(LETTERS[j])
    return "".join(letters)
