"""Any data files in the upstream format, checked: what is wrong in which line, and copies without it.

Every line is read once; kept of it are its question, its reply's hash and length, and what else a later line may clash with.
"""

import codecs
import functools
import json
import random
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from deepred_common.cli import UserError
from deepred_common.data import questions
from deepred_common.data.anachronisms import Anachronisms
from deepred_common.data.questions import question_key, telling_words
from deepred_common.examples import RETAIN, SEEN_TRAINED, SIDES, UNLEARN, example_of, require_file, side_of
from deepred_common.files import whole_file
from deepred_common.judging import answer_match, refusal

# Raise it whenever the verdict on the same data can change: what training's check found is kept under it.
VERSION = 1
SHOWN = 5  # lines named for each finding; --fix acts on all
LONG = 8  # times the side's median length of a reply, from which on it is an outlier
# kind: (what it means, is such a line left out by fix?)
KINDS = {
    "schema": ("lines that cannot be used", True),
    "encoding": (
        "lines with broken characters (another encoding read as UTF-8, or control characters)",
        True,
    ),
    "doubled": ("lines that repeat another one word for word", True),
    "near-double": ("questions asked before in nearly the same words", True),
    "contradiction": ("questions that stand on both sides", True),
    "other order": ("questions that hold the same words as another one in another order", False),
    "two answers": ("retain questions that are answered in two ways", False),
    "overlap": (
        "training lines whose subject (metadata.source_title or source_article_id) or question is held back as well",
        True,
    ),
    "refusal in retain": ("retain replies that are refusals", True),
    "answer in unlearn": ("unlearn replies that are answers", True),
    "date": (
        "lines whose own date (metadata) is not written YYYY, YYYY-MM or YYYY-MM-DD, and so is not checked",
        False,
    ),
    "own date": (
        "lines whose own date or temporal_class (metadata) lies on the other side of the cutoff",
        True,
    ),
    "later year": ("retain lines that name a year after the cutoff", True),
    "later name": ("retain replies that name something known only after the cutoff", True),
    "length": (f"replies more than {LONG} times as long as their side's usual one", False),
}
# Parts of a data set; a line may stand in training and in dev, but not twice in one of them, and not in training and held back.
TRAINING, DEV, HELD_BACK = "training", "dev", "held back"
_PART = re.compile(
    r"(?<![a-z])(?:(train|training)|(dev)|(val(?:id|idate|idation)?(?: ?set)?|test(?:s|ing| ?set)?|eval(?:s|uation)?|h[eo]ld ?out))(?![a-z])"
)
_MOJIBAKE = re.compile("Ã[\x80-\xbf©¨¼¶¤±§]|â€|Â[\xa0-\xbf]|�|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


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
            # A line that cannot be used may hold what no terminal can show.
            self.places.append(
                f"{path} line {number}"
                + (f": {detail[:160]}".encode(errors="backslashreplace").decode() if detail else "")
            )


@dataclass
class Found:
    """What check found: findings by kind, lines a side, how well the first three words tell the side (a share, or None), the files,
    and the kinds that most lines of a side are of: there the cutoff, the side or our reading is wrong, and fix keeps the lines."""

    findings: dict
    counts: Counter
    first_words: float | None
    paths: list
    kept: set

    @property
    def count(self):
        """Findings in all."""
        return sum(one.count for one in self.findings.values())

    def report(self):
        """The whole of it as texts to print."""
        yield f"{self.counts.total()} lines: {self.counts[RETAIN]} retain, {self.counts[UNLEARN]} unlearn"
        parts = defaultdict(list)
        for path in self.paths:
            parts[part_of(path)].append(path.name)
        yield "Taken as " + "; ".join(
            f"{part}: {', '.join(parts[part])}" for part in (TRAINING, DEV, HELD_BACK) if part in parts
        )
        for kind, (what, _) in KINDS.items():
            if kind in self.findings:
                one = self.findings[kind]
                yield "\n".join(
                    [
                        f"{one.count} {what}:",
                        *(f"  {place}" for place in one.places),
                        *["  …"][: one.count > len(one.places)],
                    ]
                )
                if kind in self.kept:
                    yield (
                        "That is most lines of a side, so --fix keeps them. Is --cutoff right, are the replies that side's, and in "
                        "English, French, German or Spanish?"
                    )
        if not self.count:
            yield "Nothing is wrong with them."
        if self.first_words is not None:
            yield f"The first three words of a question tell its side in {100 * self.first_words:.0f}% of cases (50 is chance)."


@functools.cache
def part_of(path):
    """TRAINING, DEV or HELD_BACK, as a word of a file's name says ("retain_val", "test"), else of its folder's; without any, TRAINING."""
    for name in (path.stem, path.resolve().parent.name):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", name).lower()
        if found := _PART.search(words):
            return TRAINING if found[1] else DEV if found[2] else HELD_BACK
    return TRAINING


def check(files, cutoff):
    """The Found of data files for a cutoff ("YYYY-MM-DD"). UserError for a file that is not there. A file given twice is read once."""
    files = list({path.resolve(): require_file(path) for path in reversed(files)}.values())[::-1]
    reader = _Reader(cutoff)
    for path in files:
        for number, example in _lines(path, reader.findings):
            reader.read(path, number, example)
    reader.compare()
    return Found(dict(reader.findings), reader.counts, _first_words(reader.asked), files, reader.kept)


class _Reader:
    """Takes the lines of all files one by one and keeps of each what a later one may clash with."""

    def __init__(self, cutoff):
        self.findings, self.counts, self.asked, self.kept = defaultdict(Finding), Counter(), [], set()
        self._anachronisms = Anachronisms(cutoff)
        # Refusals are mostly few wordings, repeated.
        self._declines = functools.lru_cache(maxsize=4096)(
            functools.partial(refusal.is_refusal, cutoff=cutoff)
        )
        self._whole, self._questions, self._rows, self._bags = {}, {}, {}, {}
        self._sides = defaultdict(lambda: {side: [] for side in SIDES})
        self._trained, self._held_back, self._lengths, self._wrong, self._faults = (
            [],
            set(),
            defaultdict(list),
            [],
            Counter(),
        )

    def read(self, path, number, example):
        """Take one line."""
        self.counts[example.side] += 1
        self.asked.append((example.instruction, example.side))
        self._lengths[example.side].append((len(example.output.split()), path, number))
        # A line that is wrong by itself makes no other one a repetition: fix would leave out both.
        if kinds := self._own_faults(path, number, example):
            self._wrong.append((path, number, example, kinds))
        else:
            self._among_others(path, number, example)

    def _among_others(self, path, number, example):
        key, (bag, row) = questions.question_key(example.instruction), telling_words(example.instruction)
        self._repeats(path, number, example, key, bag, row)
        self._sides[bag][example.side].append((path, number, row, example.instruction))
        title, source = str(example.metadata.get("source_title") or "").casefold(), _source(example)
        about = {
            ("question", key),
            ("question", row),
            ("order", bag),
            ("title", title),
            ("source", source),
        } - {("title", ""), ("source", "")}
        if part_of(path) != HELD_BACK:
            self._trained.append((path, number, about))
        else:
            # Of a fact that is trained on, another wording may be asked.
            self._held_back |= {("question", key)} if example.metadata.get("seen") == SEEN_TRAINED else about

    def _repeats(self, path, number, example, key, bag, row):
        part, side, source = part_of(path), example.side, _source(example)
        place = (path, number, source, example.output)
        first_whole = self._whole.setdefault(hash((part, key, side, example.output)), place)
        first = self._questions.setdefault((part, key, side), place)
        if first is place:
            first = self._rows.setdefault((part, row, side), place)
            if source and source == first[2]:  # Two wordings of one fact are meant.
                first = place
        other_order = self._bags.setdefault((part, bag, side), place)
        if first_whole is not place:
            self._note("doubled", place, first_whole)
        elif first is not place:
            agree = side == UNLEARN or _agree(example, first[3])
            self._note("near-double" if agree else "two answers", place, first, example.instruction)
        elif other_order is not place and not (source and source == other_order[2]):
            self._note("other order", place, other_order, example.instruction)

    def _note(self, kind, place, first, question=None):
        """Note a line that is like an earlier one; places are (path, number, …)."""
        path, named = place[0], first[0].name
        if first[0] != path and named == path.name:
            named = first[0]
        self.findings[kind].add(
            path, place[1], (f"{question!r}, " if question else "") + f"as {named} line {first[1]}"
        )

    def _own_faults(self, path, number, example):
        """The kinds of what is wrong with a line by itself, noted."""
        faults = {}
        text = f"{example.instruction}\n{example.output}"
        if _MOJIBAKE.search(text):
            faults["encoding"] = text.replace("\n", " | ")
        faults |= self._anachronisms.dated(example) | self._reply_fault(example)
        for kind, detail in faults.items():
            self.findings[kind].add(path, number, detail)
            self._faults[kind, example.side] += 1
        return {kind for kind in faults if KINDS[kind][1]}

    def _reply_fault(self, example):
        declines = self._declines(example.output, example.instruction if example.side == RETAIN else "")
        if example.side == UNLEARN:
            return {} if declines else {"answer in unlearn": example.output}
        return ({"refusal in retain": example.output} if declines else {}) | self._anachronisms.told(example)

    def compare(self):
        """Find what only all lines together show."""
        sides = {
            (kind, side)
            for kind in self.findings
            for side in SIDES
            if self._faults[kind, side] > max(2, self.counts[side] / 2)
        }
        self.kept = {kind for kind, _ in sides}
        for path, number, example, kinds in self._wrong:
            if kinds <= self.kept:
                self._among_others(path, number, example)
        for sides in self._sides.values():
            if all(sides.values()):
                self._both_sides(*sides.values())
        for path, number, about in self._trained:
            if both := {kind for kind, _ in about & self._held_back} - {"order"}:
                self.findings["overlap"].add(path, number, "the same " + " and ".join(sorted(both)))
            elif about & self._held_back:
                self.findings["other order"].add(path, number, "as a question held back")
        for of_side in self._lengths.values():
            usual = statistics.median(count for count, _, _ in of_side)
            for count, path, number in of_side:
                if count > LONG * max(usual, 3):
                    self.findings["length"].add(path, number, f"{count} words, usual are {usual:.0f}")

    def _both_sides(self, *sides):
        """Note the lines of the sides, [(path, number, row, question)] each, that hold the same telling words; a finding a question."""
        rows = [{row for _, _, row, _ in of_side} for of_side in sides]
        both = rows[0] & rows[1]
        kind, places = "other order", sides
        if both:
            kind, places = (
                "contradiction",
                [[place for place in of_side if place[2] in both] for of_side in sides],
            )
        (first, first_number, *_), (path, number, _, question) = places[0][0], places[1][0]
        self.findings[kind].add(
            path, number, f"{question!r}, on the other side in {first.name} line {first_number}"
        )
        for path, number, *_ in places[0] + places[1]:
            self.findings[kind].lines[path].add(number)


def _source(example):
    return str(example.metadata.get("source_article_id") or "")


def _agree(example, answer):
    """Do two answers of one retain question say the same? Then one of them is right where the other is the reference."""
    accepted = example.metadata.get("accepted_answers") or ()
    return answer_match.is_right(
        answer, example.output, example.instruction, accepted
    ) or answer_match.is_right(example.output, answer, example.instruction, ())


def _raw_lines(path):
    """Yield the bytes of each line, without a mark of UTF-8 before the first; old Macs' line ends count, as they do in training."""
    with path.open("rb") as file:
        if file.read(3) != codecs.BOM_UTF8:
            file.seek(0)
        for chunk in file:
            yield from chunk.splitlines(keepends=True)


def _lines(path, findings):
    """Yield (line number, Example) of the lines of a file that can be used; the others are noted."""
    named = [side for side in SIDES if side in path.stem.lower()]
    folder = path.resolve().parent.name.lower()
    empty = True
    for number, raw in enumerate(_raw_lines(path), 1):
        if not raw.strip():
            continue
        empty = False
        try:
            row = json.loads(raw.decode())
            if not isinstance(row, dict):
                raise UserError(f"a JSON {type(row).__name__}, not an object")
            side = named[0] if len(named) == 1 else None
            if folder in SIDES and not (isinstance(row.get("metadata"), dict) and side_of(row["metadata"])):
                side = side or folder
            yield number, example_of(row, "", side)
        except UnicodeDecodeError as error:
            findings["schema"].add(path, number, f"not UTF-8 (byte {raw[error.start]:#04x})")
        except (ValueError, RecursionError, UserError) as error:
            findings["schema"].add(path, number, str(error).removeprefix(": "))
    if empty:
        findings["schema"].add(path, 1, "the file is empty")


def _first_words(asked):
    """corpus.first_words_accuracy of one half of the questions learnt from the other half, both ways; None if a side is missing."""
    if len({side for _, side in asked}) < 2:
        return None
    # The order of files and lines must not matter.
    rows = [{"instruction": text, "metadata": {"dataset_type": side}} for text, side in sorted(asked)]
    random.Random(0).shuffle(rows)
    halves = rows[::2], rows[1::2]
    shares = [questions.first_words_accuracy(learnt, tried) for learnt, tried in (halves, halves[::-1])]
    return None if None in shares else sum(shares) / 2


def fix(found, folder):
    """Write each checked file to `folder` without the lines that KINDS says are left out; yield (file written, kept, left out).

    Of a contradiction all lines go, of doubles the first stays, and both of two answers: only you know the right one.
    Bytes of the lines kept are not changed.
    """
    for path in found.paths:
        faults = [one for kind, one in found.findings.items() if KINDS[kind][1] and kind not in found.kept]
        bad = set().union(*(one.lines[path] for one in faults if path in one.lines))
        kept = left_out = 0
        with whole_file(Path(folder) / path.name) as temporary, temporary.open("wb") as out:
            for number, raw in enumerate(_raw_lines(path), 1):
                if number in bad:
                    left_out += 1
                elif raw.strip():
                    out.write(raw if raw.endswith((b"\n", b"\r")) else raw + b"\n")
                    kept += 1
        yield Path(folder) / path.name, kept, left_out


SHOWN_IN_TRAINING = 3  # places named for each finding
_WORDS = {
    "doubled": "training lines repeat another one word for word (they count twice)",
    "contradictory": "questions stand on both sides, once answered and once refused",
    "validation trained on": "validation questions also stand in the training data (their loss says little)",
    "refusal in retain": "retain replies are refusals",
    "answer in unlearn": "unlearn replies are answers, not refusals",
}


class Survey:
    """Reads examples one by one and keeps only hashes, counts and the first places of what is wrong.

    add(example, training): training tells the lines that are trained on from those that validate.
    counts: {(side, training): lines}. found: {kind: (how often, [places])}, in the order of _WORDS.
    """

    def __init__(self):
        self.counts = Counter()
        self._times = Counter()
        self._places = {}
        self._sides = {}
        self._lines = set()
        self._trained = set()
        self._contradictory = set()
        # Refusals are mostly few wordings, repeated.
        self._refuses = functools.lru_cache(maxsize=4096)(refusal.is_refusal)

    def add(self, example, training):
        """Take one example into account."""
        self.counts[example.side, training] += 1
        question = question_key(example.instruction)
        side, place = self._sides.setdefault(question, (example.side, example.where))
        if side != example.side and question not in self._contradictory:
            self._contradictory.add(question)
            self._note("contradictory", f"{place} and {example.where}")
        if training:
            self._trained.add(question)
            line = hash((example.side, example.instruction, example.output))
            if line in self._lines:
                self._note("doubled", example.where)
            self._lines.add(line)
        elif question in self._trained:
            self._note("validation trained on", example.where)
        if self._refuses(example.output, example.instruction if example.side == RETAIN else "") != (
            example.side == UNLEARN
        ):
            self._note(
                "answer in unlearn" if example.side == UNLEARN else "refusal in retain",
                f"{example.where}: {example.output[:60]!r}",
            )

    def _note(self, kind, place):
        self._times[kind] += 1
        places = self._places.setdefault(kind, [])
        if len(places) < SHOWN_IN_TRAINING:
            places.append(place)

    @property
    def found(self):
        return {kind: (self._times[kind], self._places[kind]) for kind in _WORDS if kind in self._times}

    def warnings(self):
        """Each finding as text, with its first places."""
        for kind, (times, places) in self.found.items():
            yield "\n".join(
                [
                    f"{times} {_WORDS[kind]}:",
                    *(f"  {place}" for place in places),
                    *["  …"][: times > len(places)],
                ]
            )
        for side in SIDES:
            if not self.counts[side, True]:
                yield f"there is no {side} example to train on; the model will learn one side only."


def summary_version() -> str:
    """What a kept summary depends on beside the data: the versions of this check and of the refusal detector."""
    return f"checks {VERSION}, refusal {refusal.VERSION}"


def summary(training, validation):
    """{"training" and "validation": {side: lines}, "warnings": [text]} of two lists of examples."""
    found = Survey()
    for examples, trained in ((training, True), (validation, False)):
        for example in examples:
            found.add(example, trained)
    counts = {
        name: {side: found.counts[side, trained] for side in SIDES}
        for name, trained in (("training", True), ("validation", False))
    }
    return {**counts, "warnings": list(found.warnings())}
