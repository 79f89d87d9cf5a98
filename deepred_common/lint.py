"""Any data files in the upstream format, checked: what is wrong in which line, and copies without it.

Every line is read once and little of it kept, so that 150 000 lines take seconds and not memory.
"""

import datetime
import functools
import json
import random
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from deepred_common import corpus, paths, records, survey
from deepred_common.cli import UserError
from deepred_common.records import RETAIN, SIDES, UNLEARN

NAMES = paths.ROOT / "datasets" / "names.jsonl"
SHOWN = 5  # lines named for each finding; --fix acts on all
LONG = 8  # times the side's median length of a reply, from which on it is an outlier

# kind: (what it means, is such a line left out by fix?)
KINDS = {
    "schema": ("lines that cannot be used", True),
    "encoding": ("lines with broken characters (another encoding read as UTF-8, or control characters)", True),
    "doubled": ("lines that repeat another one word for word", True),
    "near-double": ("questions asked before in nearly the same words", True),
    "contradiction": ("questions that stand on both sides", True),
    "overlap": ("training lines whose subject (metadata.source_title) or question is held back as well", True),
    "refusal in retain": ("retain replies that are refusals", True),
    "answer in unlearn": ("unlearn replies that are answers", True),
    "later year": ("retain lines that name a year after the cutoff", True),
    "later name": ("retain replies that name something known only after the cutoff", True),
    "length": (f"replies more than {LONG} times as long as their side's usual one", False),
}

_MOJIBAKE = re.compile("Ã[\x80-\xbf©¨¼¶¤±§]|â€|Â[\xa0-\xbf]|�|[\x00-\x08\x0b\x0c\x0e-\x1f]")
_YEAR = re.compile(r"\b(1[0-9]{3}|20[0-9]{2})\b")
_COMMON = frozenset("a an the of in on at to for by with from is was are were be been did do does what which who whom whose when where why how "
                    "name tell me give us can could you would please i like know did and or it its that this".split())


@dataclass
class Finding:
    """The lines of one kind of fault: numbers by file for fix, the first places as text for people."""

    lines: dict = field(default_factory=lambda: defaultdict(set))
    places: list = field(default_factory=list)
    count: int = 0

    def add(self, path, number, detail=""):
        """Note one line."""
        self.count += 1
        self.lines[path].add(number)
        if len(self.places) < SHOWN:
            self.places.append(f"{path} line {number}" + (f": {detail[:90]}" if detail else ""))


@dataclass
class Found:
    """What check found: findings by kind, lines a side, and how well the first three words tell the side (a share, or None)."""

    findings: dict
    counts: Counter
    first_words: float | None
    paths: list

    @property
    def count(self):
        """Findings in all."""
        return sum(one.count for one in self.findings.values())

    def report(self):
        """The whole of it as texts to print."""
        yield f"{self.counts.total()} lines: {self.counts[RETAIN]} retain, {self.counts[UNLEARN]} unlearn"
        for kind, (what, _) in KINDS.items():
            if kind in self.findings:
                one = self.findings[kind]
                yield "\n".join([f"{one.count} {what}:", *(f"  {place}" for place in one.places), *["  …"][:one.count > len(one.places)]])
        if not self.count:
            yield "Nothing is wrong with them."
        if self.first_words is not None:
            yield f"The first three words of a question tell its side in {100 * self.first_words:.0f}% of cases (50 is chance)."


def _held_back(path):
    return re.search(r"val|test", path.stem) is not None and "train" not in path.stem


def telling_words(question):
    """A question's bag of telling words, as a hash: what asks the same in another order or politeness has the same."""
    return hash(frozenset(word for word in re.findall(r"\w+", question.casefold()) if word not in _COMMON))


def later_names(cutoff):
    """The names of datasets/names.jsonl that nobody could know in the year of the cutoff."""
    last = datetime.date.fromisoformat(cutoff).year
    return {row["name"] for _, row in records.read_objects(NAMES) if row["known_from"] > last}


def check(files, cutoff):
    """The Found of data files for a cutoff ("YYYY-MM-DD"). UserError for a file that is not there."""
    files = [records.require_file(path) for path in files]
    reader = _Reader(cutoff)
    for path in files:
        for number, example in _lines(path, reader.findings):
            reader.read(path, number, example)
    reader.compare()
    return Found(dict(reader.findings), reader.counts, _first_words(reader.asked), files)


class _Reader:
    """Takes the lines of all files one by one and keeps of each what a later one may clash with."""

    def __init__(self, cutoff):
        self.findings, self.counts, self.asked = defaultdict(Finding), Counter(), []
        self._last_year = datetime.date.fromisoformat(cutoff).year
        names = sorted(later_names(cutoff), key=len, reverse=True)
        self._names = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names) or r"(?!)")
        self._declines = functools.lru_cache(maxsize=4096)(survey.declines)
        self._whole, self._bags, self._side_of = {}, {}, {}
        self._trained, self._held_back, self._lengths = [], set(), defaultdict(list)

    def read(self, path, number, example):
        """Take one line."""
        self.counts[example.side] += 1
        self.asked.append((example.instruction, example.side))
        self._lengths[example.side].append((len(example.output.split()), path, number))
        text = f"{example.instruction}\n{example.output}"
        if _MOJIBAKE.search(text):
            self.findings["encoding"].add(path, number, text.replace("\n", " | "))
        key = survey.question_key(example.instruction)
        self._repeats(path, number, example, key)
        self._reply(path, number, example)
        subject = str(example.metadata.get("source_title") or "").casefold()
        if _held_back(path):
            self._held_back |= {key, *([subject] if subject else [])}
        else:
            self._trained.append((path, number, subject, key))

    def _repeats(self, path, number, example, key):
        place, fact = f"{path.name} line {number}", example.metadata.get("source_article_id")
        whole, bag = hash((key, example.side, example.output)), (telling_words(example.instruction), example.side)
        near = self._bags.setdefault(bag, (place, key, fact))
        if whole in self._whole:
            self.findings["doubled"].add(path, number, f"as {self._whole[whole]}")
        elif near[1] != key and (fact is None or near[2] != fact):
            # Two wordings of one fact, with one source_article_id, are meant.
            self.findings["near-double"].add(path, number, f"{example.instruction!r}, as {near[0]}")
        self._whole.setdefault(whole, place)
        side, first, first_number = self._side_of.setdefault(key, (example.side, path, number))
        if side != example.side:
            self.findings["contradiction"].add(path, number, f"{example.instruction!r}, on the other side in {first.name} line {first_number}")
            self.findings["contradiction"].lines[first].add(first_number)

    def _reply(self, path, number, example):
        declines = self._declines(example.output, example.instruction if example.side == RETAIN else "")
        if example.side == UNLEARN:
            if not declines:
                self.findings["answer in unlearn"].add(path, number, example.output)
            return
        if declines:
            self.findings["refusal in retain"].add(path, number, example.output)
        # A year in the subject's own name ("2001: A Space Odyssey") is no date.
        named = _YEAR.findall(str(example.metadata.get("source_title") or ""))
        years = [year for year in _YEAR.findall(f"{example.instruction} {example.output}") if int(year) > self._last_year and year not in named]
        if years:
            self.findings["later year"].add(path, number, f"{years[0]} in {example.output!r}")
        elif name := self._names.search(example.output):
            self.findings["later name"].add(path, number, f"{name[0]} in {example.output!r}")

    def compare(self):
        """Find what only all lines together show."""
        for path, number, subject, key in self._trained:
            if subject in self._held_back or key in self._held_back:
                self.findings["overlap"].add(path, number, subject)
        for of_side in self._lengths.values():
            usual = statistics.median(count for count, _, _ in of_side)
            for count, path, number in of_side:
                if count > LONG * max(usual, 3):
                    self.findings["length"].add(path, number, f"{count} words, usual are {usual:.0f}")


def _lines(path, findings):
    """Yield (line number, Example) of the lines of a file that can be used; the others are noted."""
    expected = next((side for side in SIDES if side in path.stem), None)
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
                if not isinstance(row, dict):
                    raise UserError(f"a JSON {type(row).__name__}, not an object")
                yield number, records.example_of(row, "", expected)
            except UnicodeDecodeError as error:
                findings["schema"].add(path, number, f"not UTF-8 (byte {raw[error.start]:#04x})")
            except (json.JSONDecodeError, UserError) as error:
                findings["schema"].add(path, number, str(error).removeprefix(": "))


def _first_words(asked):
    """corpus.first_words_accuracy of one half of the questions learnt from the other half, both ways; None if a side is missing."""
    if len({side for _, side in asked}) < 2:
        return None
    rows = [{"instruction": text, "metadata": {"dataset_type": side}} for text, side in asked]
    random.Random(0).shuffle(rows)
    half = len(rows) // 2
    return (corpus.first_words_accuracy(rows[:half], rows[half:]) + corpus.first_words_accuracy(rows[half:], rows[:half])) / 2


def fix(found, folder):
    """Write each checked file to `folder` without the lines that KINDS says are left out; yield (file written, kept, left out).

    Of a contradiction both lines go; of doubles the first stays. Bytes of the lines kept are not changed.
    """
    for path in found.paths:
        bad = set().union(*(one.lines[path] for kind, one in found.findings.items() if KINDS[kind][1] and path in one.lines))
        kept = left_out = 0
        with paths.whole_file(Path(folder) / path.name) as temporary, path.open("rb") as source, temporary.open("wb") as out:
            for number, raw in enumerate(source, 1):
                if number in bad:
                    left_out += 1
                elif raw.strip():
                    out.write(raw if raw.endswith(b"\n") else raw + b"\n")
                    kept += 1
        yield Path(folder) / path.name, kept, left_out
