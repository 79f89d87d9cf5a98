"""The check of data: `check` of files for a cutoff, with a report; `summary` of examples before training."""

from __future__ import annotations

import functools
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from deepred_common.data.anachronisms import Anachronisms
from deepred_common.data.data_files import part_of, usable_examples, write_without
from deepred_common.data.findings import KINDS, LONG, Findings
from deepred_common.data.questions import first_words_accuracy_within
from deepred_common.data.repeats import DEV, HELD_OUT, TRAINING, Repeats
from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.examples import ALL_SIDES, CHAT, MIXED, RETAIN, SIDES, UNLEARN, Example
from deepred_common.examples import VERSION as EXAMPLES_VERSION
from deepred_common.json_lines import require_file
from deepred_common.judging import refusal

# Raise it whenever the verdict on the same data can change: what training's check found is kept under it.
VERSION = 5
# What the check before training looks for: what spoils training whatever the cutoff, and costs little time
# to find.
TRAINING_KINDS = frozenset(
    {"repeated", "both sides", "held-out question", "refusal in retain", "answer in unlearn"}
)
SHOWN_IN_TRAINING = 3  # examples named of each kind
_SHORTEST_USUAL = 3  # words; where replies are usually shorter still, four times as many are no outlier
_FEW = 2  # examples of a side with one kind of finding that are never "most of the side"
_REMEMBERED_REPLIES = 4096  # refusals are mostly few wordings, repeated
_MOJIBAKE = re.compile("Ã[\x80-\xbf©¨¼¶¤±§]|â€|Â[\xa0-\xbf]|\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The special tokens of common models. Which of them a model has, training asks its tokenizer.
_MARKUP = re.compile(
    r"""
    <[|｜][\w▁ ]{1,40}[|｜]>  # <|im_end|>, <|eot_id|>, <｜end▁of▁sentence｜>
    | </?s> | <(?:unk|pad|bos|eos|mask|sep|cls)>  # Llama 2, Mistral, Gemma
    | <(?:start|end)_of_turn> | <\|turn> | <turn\|>  # Gemma
    | \[/?INST\] | <</?SYS>> | \[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS|THINK)\] | \[TOOL_CALLS\]
    | </?think>  # Qwen3, DeepSeek R1: some templates cut it out of replies
    """,
    re.VERBOSE,
)


class Checker:
    """Takes examples one by one with `add`; after `finish` all is in `findings`.

    wanted: the kinds of finding to look for. cutoff ("YYYY-MM-DD"): needed to look for what lies after it.
    counts: {(side, part): examples}. kept_kinds, after `finish`: kinds that most examples of a side have, of
    a kind that compares examples in one part; there the cutoff, the side, our reading or the choice of files
    is wrong, not the examples.
    """

    def __init__(self, wanted: Iterable[str] = KINDS, cutoff: str | None = None) -> None:
        self.findings = Findings(wanted)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kept_kinds: set[str] = set()
        self._faults: Counter[tuple[str, str]] = Counter()
        self._cutoff = cutoff or DEFAULT_CUTOFF
        self._anachronisms = Anachronisms(cutoff) if cutoff else None
        self._is_refusal = functools.lru_cache(_REMEMBERED_REPLIES)(refusal.is_refusal)
        self._repeats = Repeats(self.findings)
        self._set_aside: list[tuple[Example, str, set[str]]] = []
        self._lengths: dict[str, list[tuple[int, str]]] = defaultdict(list)

    def add(self, example: Example, part: str) -> None:
        """Take one example of a part (TRAINING, DEV or HELD_OUT)."""
        self.counts[example.side, part] += 1
        if "long reply" in self.findings.wanted:
            self._lengths[example.side].append((len(example.output.split()), example.where))
        faults = self._own_faults(example)
        for kind, detail in faults.items():
            self.findings.add(kind, example.where, detail)
            self._faults[kind, example.side] += 1
        reasons = {kind for kind in faults if KINDS[kind].is_left_out}
        if reasons:
            # It makes no other example a repetition, or --fix would leave out both.
            self._set_aside.append((example, part, reasons))
        else:
            self._repeats.add(example, part)

    def finish(self) -> None:
        """Find what only all examples together show."""
        totals: Counter[str] = Counter()
        for (side, _), count in self.counts.items():
            totals[side] += count
        self.kept_kinds |= {
            kind for (kind, side), count in self._faults.items() if _is_most(kind, count, totals[side])
        }
        for example, part, reasons in self._set_aside:
            if reasons <= self.kept_kinds:
                self._repeats.add(example, part)
        self._repeats.finish()
        self.kept_kinds |= {
            kind
            for (kind, side, part), count in self._repeats.faults.items()
            if _is_most(kind, count, self._repeats.counts[side, part])
        }
        for lengths in self._lengths.values():
            usual = statistics.median(words for words, _ in lengths)
            for words, where in lengths:
                if words > LONG * max(usual, _SHORTEST_USUAL):
                    self.findings.add("long reply", where, f"{words} words, usual are {usual:.0f}")

    def _own_faults(self, example: Example) -> dict[str, str]:
        """{kind: detail} of what is wrong with an example by itself."""
        faults = {}
        if "encoding" in self.findings.wanted:
            text = f"{example.shown_text}\n{example.output}"
            if _MOJIBAKE.search(text):
                faults["encoding"] = text.replace("\n", " | ")
        if "markup" in self.findings.wanted:
            text = f"{example.shown_text}\n{example.output}"
            if markup := _MARKUP.search(text):
                faults["markup"] = f"{markup[0]} in {text!r}"
        if example.side == CHAT:
            return faults
        if self._anachronisms:
            faults |= self._anachronisms.in_metadata(example)
        if example.side == UNLEARN:
            is_mixed = example.metadata.get("wrapping") == MIXED
            declines = refusal.declines_in_part if is_mixed else self._is_refusal
            if not declines(example.output, cutoff=self._cutoff):
                faults["answer in unlearn"] = example.output
            return faults
        if refusal.is_refusal(example.output, example.shown_text, self._cutoff):
            faults["refusal in retain"] = example.output
        if self._anachronisms:
            faults |= self._anachronisms.in_words(example)
        return faults


def _is_most(kind: str, count: int, total: int) -> bool:
    """True if most of `total` examples have a finding of a kind of which --fix then keeps all."""
    return bool(KINDS[kind].if_most) and count > max(_FEW, total / 2)


# ---- files, for build_datasets.py --check ----------------------------------------------------------------


@dataclass(frozen=True)
class Report:
    """What `check` found. first_words: questions.first_words_accuracy_within."""

    files: list[Path]
    findings: Findings
    counts: dict[str, int]
    kept_kinds: set[str]
    first_words: float | None

    def texts(self) -> Iterator[str]:
        """Yield all of it as texts to print."""
        total = sum(self.counts.values())
        chat = f", {self.counts[CHAT]} chat" if self.counts[CHAT] else ""
        yield f"Examples: {total} ({self.counts[RETAIN]} retain, {self.counts[UNLEARN]} unlearn{chat})"
        yield "Taken as " + "; ".join(
            f"{part}: {', '.join(names)}" for part, names in self._names_by_part().items() if names
        )
        for kind, text in self.findings.texts():
            yield text
            if kind in self.kept_kinds:
                yield f"Most examples of a side have this, so --fix keeps them. {KINDS[kind].if_most}"
        if not self.findings.count:
            yield "Nothing is wrong with them."
        if self.first_words is not None:
            yield (
                "The side of a question is guessed from its first three words in "
                f"{100 * self.first_words:.0f}% of cases (50 is chance)."
            )

    def _names_by_part(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {TRAINING: [], DEV: [], HELD_OUT: []}
        for path in self.files:
            names[part_of(path)].append(path.name)
        return names


def check(files: Iterable[Path], cutoff: str) -> Report:
    """The Report of data files for a cutoff ("YYYY-MM-DD"). A file given twice is read once.

    Raises UserError for a file that does not exist.
    """
    by_real_path: dict[Path, Path] = {}
    for path in files:
        by_real_path.setdefault(path.resolve(), require_file(path))
    checker = Checker(cutoff=cutoff)
    questions: list[tuple[str, str]] = []
    for path in by_real_path.values():
        part = part_of(path)
        for example in usable_examples(path, checker.findings):
            checker.add(example, part)
            if example.side in SIDES:
                questions.append((example.question, example.side))
    checker.finish()
    counts = dict.fromkeys(ALL_SIDES, 0)
    for (side, _), count in checker.counts.items():
        counts[side] += count
    return Report(
        files=list(by_real_path.values()),
        findings=checker.findings,
        counts=counts,
        kept_kinds=checker.kept_kinds,
        first_words=first_words_accuracy_within(questions),
    )


def fix(report: Report, folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Copy each checked file to `folder` without the examples that KINDS says are left out.

    Yields (copy, lines kept, lines left out). Of questions on both sides all examples go, of repetitions
    the first stays, and both of two answers: only you know the right one.
    """
    left_out = report.findings.left_out(report.kept_kinds)
    for path in report.files:
        yield write_without(path, left_out, folder)


# ---- examples, for the check before training -------------------------------------------------------------


class DataSummary(TypedDict):
    """{side: examples} to train on and to validate with, and what is wrong as texts."""

    training: dict[str, int]
    validation: dict[str, int]
    warnings: list[str]


def summary_version() -> str:
    """What a kept summary depends on beside the data: how it is read, checked and judged."""
    return f"examples {EXAMPLES_VERSION}, checks {VERSION}, refusal {refusal.VERSION}"


def summary(training: Sequence[Example], validation: Sequence[Example]) -> DataSummary:
    """The DataSummary of what is trained on and what validates, by the kinds of TRAINING_KINDS."""
    checker = Checker(TRAINING_KINDS)
    for part, examples in ((TRAINING, training), (HELD_OUT, validation)):
        for example in examples:
            checker.add(example, part)
    checker.finish()
    warnings = [text for _, text in checker.findings.texts(SHOWN_IN_TRAINING)]
    warnings += [
        f"there is no {side} example to train on; the model will learn one side only."
        for side in SIDES
        if not checker.counts[side, TRAINING]
    ]
    return {
        "training": {side: checker.counts[side, TRAINING] for side in SIDES},
        "validation": {side: checker.counts[side, HELD_OUT] for side in SIDES},
        "warnings": warnings,
    }
