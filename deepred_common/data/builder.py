"""All data files for one cutoff, out of the bank of facts. All follows from the bank and the settings."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepred_common.cli import UserError
from deepred_common.data import present_lines, thing_lines, wrappings
from deepred_common.data.data_lines import (
    TRAINED_WORDINGS,
    DataLine,
    Line,
    held_out_probes,
    line,
    read_refusals,
    trained_probes,
    training_lines,
    wordings,
)
from deepred_common.data.facts import Fact
from deepred_common.data.facts import side as side_of_fact
from deepred_common.data.present import Question
from deepred_common.data.questions import question_form
from deepred_common.data.split import TEST, TRAIN, VALIDATION, Split, split
from deepred_common.data.thing_lines import Table
from deepred_common.examples import RETAIN, SEEN_HELD_OUT, SIDES, UNLEARN

DEV_FILE = "dev/dev_subset.jsonl"
TEST_FILE = "test/test.jsonl"
CONVERSATIONS_FILE = "test/conversations.jsonl"
MISLEADING_FILE = "test/misleading.jsonl"
THINGS_FILE = "test/things.jsonl"
PRESENT_VALIDATION_FILE, PRESENT_FILE = "present/present_val.jsonl", "test/present.jsonl"
MISLEADING_WORDINGS = 2  # of each misleading fact: its question and one phrasing
BARE = "bare question"  # metadata.probe of a conversation line that has no wrapping
CONVERSATION_FACTS = 40  # facts of a side that the conversations ask for, each in half of the forms

Files = dict[str, Sequence[Line]]  # {file name: lines}
Chosen = dict[str, list[tuple[Fact, str]]]  # {side: (fact, wording)}


@dataclass(frozen=True)
class BuildSettings:
    """What a build follows from, beside the bank.

    cutoff: "YYYY-MM-DD". ratio: retain to unlearn. dev_lines: size of the dev subset. seed: of all choices.
    """

    cutoff: str
    ratio: tuple[float, float]
    dev_lines: int
    seed: int


def training_file(side: str) -> str:
    """The name of the file that a side is trained on."""
    return f"{side}/{side}_train.jsonl"


def validation_file(side: str) -> str:
    """The name of the file that validates a side."""
    return f"{side}/{side}_val.jsonl"


def build(
    bank: Sequence[Fact],
    settings: BuildSettings,
    misleading: Mapping[str, Sequence[Fact]] | None = None,
    table: Table | None = None,
    questions: Sequence[Question] = (),
) -> Files:
    """{file name: lines} of all files. UserError if one would have nothing of a side.

    misleading: {kind: facts} for the file of that name, which is left out without them. table: dated things,
    which are trained on besides, and those held out for their test file; those that a fact is about are left
    out. questions: in the present tense, which are asked as of the cutoff, for training and in two files of
    their own.
    """
    parts = split(bank, settings.cutoff, settings.seed)
    for part, by_side in parts.items():
        for side in SIDES:
            if not by_side[side]:
                raise UserError(
                    f"with the cutoff {settings.cutoff} the bank has no {side} fact for {part}; add "
                    "facts, or choose another cutoff."
                )
    trained_refusals, held_out_refusals = read_refusals(settings.seed)
    plain = _part_lines(parts, TRAIN, TRAINED_WORDINGS, trained_refusals, settings)
    trained_frames, held_out_frames = wrappings.read_frames(settings.seed)

    def wrapped(
        lines: dict[str, list[DataLine]], name: str, others: dict[str, list[DataLine]] | None = None
    ) -> dict[str, list[Line]]:
        """`lines`, a share of them wrapped. others: where second questions come from; None: `lines`."""
        chooser = random.Random(f"{settings.seed} {name}")
        wrapper = wrappings.Wrapper(trained_frames, others or lines, trained_refusals, chooser)
        return {side: wrappings.wrap_share(wrapper, lines[side]) for side in SIDES}

    training = wrapped(plain, "wrappings")
    known = {fact.id for fact in bank if fact.is_known}
    dev = dev_subset(training[RETAIN] + training[UNLEARN], known, settings.dev_lines, settings.seed)
    held_out = [fact.subject for part in (VALIDATION, TEST) for side in SIDES for fact in parts[part][side]]
    only_tested = [fact.subject for facts in (misleading or {}).values() for fact in facts]
    held_out += only_tested
    present = present_lines.parts_as_of(questions, settings.cutoff, held_out)
    if table:
        table = table.without([*(fact.subject for fact in bank), *only_tested])
        asked = thing_lines.to_train(table, held_out, settings.cutoff, settings.ratio, settings.seed)
        things = wrapped(training_lines(asked, trained_refusals, settings.seed, "things"), "wrapped things")
        for side in SIDES:
            training[side] += things[side]
    if questions:
        now = present_lines.part_lines(present, TRAIN, trained_refusals, settings.seed)
        # Of most cutoffs nearly all are on one side, so second questions are the bank's.
        wrapped_now = wrapped(now, "wrapped present", plain)
        for side in SIDES:
            training[side] += wrapped_now[side]
    if table or questions:
        for side in SIDES:
            random.Random(f"{settings.seed} {side} all").shuffle(training[side])
    validation = _part_lines(parts, VALIDATION, 1, held_out_refusals, settings)
    files: Files = {training_file(side): training[side] for side in SIDES}
    files |= {validation_file(side): validation[side] for side in SIDES}
    trained_lines = training[RETAIN] + training[UNLEARN]
    files[DEV_FILE] = dev
    files[TEST_FILE] = _test_lines(parts, trained_lines, held_out_refusals, settings.seed)
    files[CONVERSATIONS_FILE] = _conversations(parts, held_out_frames, held_out_refusals, settings.seed)
    _require_both_sides(files)
    if table:
        files[THINGS_FILE] = thing_lines.test_lines(
            table, trained_lines, held_out_refusals, settings.cutoff, settings.seed
        )
    if questions:
        # A word that names a thing or fact that is trained on (laser) says nothing of untrained ones.
        titles = {one["metadata"]["source_title"].casefold() for one in trained_lines}
        for part, name in ((VALIDATION, PRESENT_VALIDATION_FILE), (TEST, PRESENT_FILE)):
            present[part] = [one for one in present[part] if one.subject.casefold() not in titles]
            now = present_lines.part_lines(present, part, held_out_refusals, settings.seed)
            files[name] = now[RETAIN] + now[UNLEARN]
    if misleading:
        files[MISLEADING_FILE] = _misleading(misleading, settings.cutoff, held_out_refusals)
    return files


def _part_lines(
    parts: Split, part: str, last: int, refusals: Sequence[str], settings: BuildSettings
) -> dict[str, list[DataLine]]:
    """{side: [line]} of the first wordings (to before the `last`) of a part's facts."""
    candidates: Chosen = {side: [] for side in SIDES}
    for side in SIDES:
        for fact in parts[part][side]:
            candidates[side] += wordings(fact, 0, last)
    chosen = balanced(candidates, settings.ratio, settings.seed)
    return training_lines(chosen, refusals, settings.seed, part)


def _test_lines(parts: Split, training: Sequence[Line], refusals: Sequence[str], seed: int) -> list[DataLine]:
    """The lines of the test file: probes of held-out facts, then the last wording of those trained on."""
    lines: list[DataLine] = []
    for side in SIDES:
        for number, fact in enumerate(parts[TEST][side]):
            lines += held_out_probes(fact, side, refusals[number % len(refusals)], seed)
    # Where a side has many facts more than the other, not all of them come to be trained on.
    trained = {line["metadata"]["source_article_id"] for line in training}
    for side in SIDES:
        for number, fact in enumerate(parts[TRAIN][side]):
            if fact.id in trained:
                lines += trained_probes(fact, side, refusals[number % len(refusals)])
    return lines


def _conversations(
    parts: Split, frames: dict[str, list[wrappings.Frame]], refusals: Sequence[str], seed: int
) -> list[Line]:
    """Questions about held-out facts, bare and in each form of wrapping, in frames that are not trained on.

    Facts that the embedded base knows come first: only there it shows what a wrapping costs.
    """
    plain: dict[str, list[DataLine]] = {}
    for side in SIDES:
        known_first = sorted(parts[TEST][side], key=lambda fact: (not fact.is_known, fact.id))
        plain[side] = [
            line(fact, fact.question, side, refusals[number % len(refusals)])
            for number, fact in enumerate(known_first[:CONVERSATION_FACTS])
        ]
    wrapper = wrappings.Wrapper(frames, plain, refusals, random.Random(f"{seed} conversations"))
    lines: list[Line] = []
    for side in SIDES:
        for number, one in enumerate(plain[side]):
            lines += [one, *(wrapper.wrap(one, form) for form in wrappings.FORMS[RETAIN][number % 2 :: 2])]
    for early, late in list(zip(plain[RETAIN], plain[UNLEARN], strict=False))[::2]:
        lines += wrapper.mixed(late, early).values()
    for conversation in lines:
        metadata = conversation["metadata"]
        metadata["seen"] = SEEN_HELD_OUT
        metadata["probe"] = metadata.get("wrapping", BARE)
    return lines


def _misleading(by_kind: Mapping[str, Sequence[Fact]], cutoff: str, refusals: Sequence[str]) -> list[Line]:
    """The lines of facts whose words mislead about their date; metadata.probe is the kind."""
    lines: list[Line] = []
    for kind, facts in by_kind.items():
        for number, fact in enumerate(facts):
            if side := side_of_fact(fact, cutoff):
                for _, text in wordings(fact, 0, MISLEADING_WORDINGS):
                    refusal = refusals[number % len(refusals)]
                    lines.append(line(fact, text, side, refusal, {"probe": kind, "seen": SEEN_HELD_OUT}))
    return lines


def _require_both_sides(files: Files) -> None:
    for name, lines in files.items():
        has = {line["metadata"]["dataset_type"] for line in lines}
        for side in [side for side in SIDES if side in name] or SIDES:
            if side not in has:
                raise UserError(
                    f"{name} would have no {side} example; choose a --ratio nearer to 1:1, more --dev_lines, "
                    "or another cutoff."
                )


def balanced(candidates: Chosen, ratio: tuple[float, float], seed: int) -> Chosen:
    """{side: [(Fact, wording)]} chosen from the candidates, each form of question as often on both sides.

    "As often" is as `ratio` (retain, unlearn) says: the form of a question must not give its side away.
    """
    by_form: dict[str, Chosen] = {side: defaultdict(list) for side in SIDES}
    for side in SIDES:
        for fact, wording in candidates[side]:
            by_form[side][question_form(wording)].append((fact, wording))
    chosen: Chosen = {side: [] for side in SIDES}
    for form in sorted({*by_form[RETAIN], *by_form[UNLEARN]}):
        units = min(len(by_form[side][form]) / share for side, share in zip(SIDES, ratio, strict=True))
        for side, share in zip(SIDES, ratio, strict=True):
            entries = by_form[side][form]
            random.Random(f"{seed} {form} {side}").shuffle(entries)
            chosen[side] += _one_of_each_first(entries)[: int(units * share)]
    for side in SIDES:
        random.Random(f"{seed} {side} order").shuffle(chosen[side])
    return chosen


def _one_of_each_first(entries: list[tuple[Fact, str]]) -> list[tuple[Fact, str]]:
    """The entries in order, but a fact gives its second wording only after every fact has given its first."""
    earlier: Counter[str] = Counter()
    ranked = []
    for fact, wording in entries:
        ranked.append((earlier[fact.id], (fact, wording)))
        earlier[fact.id] += 1
    ranked.sort(key=lambda pair: pair[0])
    return [entry for _, entry in ranked]


def dev_subset(training: Sequence[Line], known: set[str], count: int, seed: int) -> list[Line]:
    """`count` of the training lines, as even between the sides as they allow, the sides mixed.

    First of each side one line each of the facts that the embedded base knows (their ids: `known`): a quick
    try is made with a small model and few lines, only what a model knows can be kept or forgotten, and
    other facts teach more than other wordings. Then their other lines, then the rest.
    """
    chooser = random.Random(f"{seed} dev")
    ranked: dict[str, list[Line]] = {}
    for side in SIDES:
        lines = [line for line in training if line["metadata"]["dataset_type"] == side]
        taken: set[str] = set()
        ranks = []
        for one in chooser.sample(lines, len(lines)):
            fact = one["metadata"]["source_article_id"]
            ranks.append((fact not in known, fact in taken, one))
            taken.add(fact)
        ranks.sort(key=lambda rank: rank[:2])
        ranked[side] = [line for _, _, line in ranks]
    fewer, more = sorted(SIDES, key=lambda side: len(ranked[side]))
    from_fewer = min(len(ranked[fewer]), count // 2)
    wanted = {fewer: from_fewer, more: count - from_fewer}
    chosen = [line for side in SIDES for line in ranked[side][: wanted[side]]]
    return chooser.sample(chosen, len(chosen))
