"""From the bank of facts to data lines for one cutoff: who goes where, which wording is used, which refusal answers.

Everything follows from the bank, the cutoff and the seed.
"""

import random
import re
from collections import Counter, defaultdict

from deepred_common import paths
from deepred_common.data import facts, questions
from deepred_common.examples import RETAIN, SEEN_HELD_BACK, SEEN_TRAINED, SIDES, UNLEARN, read_objects

REFUSALS = paths.ROOT / "datasets" / "refusals.jsonl"
TRAIN, VALIDATION, TEST = "train", "validation", "test"
SHARES = {VALIDATION: 0.12, TEST: 0.1}
TRAINED_WORDINGS = (
    3  # of a training fact: its question and the first two phrasings; the last one is only tested
)
HELD_BACK_REFUSALS = 0.1


def read_refusals(seed):
    """(to train on, held back): the wordings of datasets/refusals.jsonl, a tenth of each tone held back by seed.

    Those to train on are in the order of the file, the first of each tone before the second ones: there the plain ones come first.
    """
    tones = defaultdict(list)
    for _, row in read_objects(REFUSALS):
        tones[row["tone"]].append(row["text"])
    ranked, held_back = [], []
    for tone, texts in tones.items():
        away = random.Random(f"{seed} {tone}").sample(texts, max(1, round(HELD_BACK_REFUSALS * len(texts))))
        held_back += away
        ranked += enumerate(text for text in texts if text not in away)
    return [text for _, text in sorted(ranked, key=lambda pair: pair[0])], held_back


def split(bank, cutoff, seed):
    """{TRAIN, VALIDATION or TEST: {side: [Fact]}}. Facts that share a subject or a pair stay together; what stands
    in brackets does not make another subject, nor do further words ("Kindle", "Amazon Kindle").

    Facts whose date does not tell their side are left out; so are training facts that name a subject held back. Validation is of
    facts that even the small embedded base knows, as far as there are any: keeping and forgetting show only in what was known.
    Test facts are drawn from all.
    """
    placed = [(fact, side) for fact in bank if (side := facts.side(fact, cutoff))]
    parent = {}

    def root(key):
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    named = {_bare(fact.subject).casefold() for fact, _ in placed if _is_name(_bare(fact.subject))}
    for fact, _ in placed:
        own = ("subject", _bare(fact.subject).casefold())
        for key in [("subject", name) for name in _runs(own[1]) & named] + (
            [("pair", fact.pair)] if fact.pair else []
        ):
            parent[root(key)] = root(own)
    groups = defaultdict(list)
    for fact, side in placed:
        groups[root(("subject", _bare(fact.subject).casefold()))].append((fact, side))
    order = sorted(groups.values(), key=lambda group: min(fact.id for fact, _ in group))
    random.Random(f"{seed} split").shuffle(order)
    found = {part: {side: [] for side in SIDES} for part in (TRAIN, VALIDATION, TEST)}
    wanted = {
        part: {side: share * sum(s == side for _, s in placed) for side in SIDES}
        for part, share in SHARES.items()
    }

    def put(group, part):
        for fact, side in group:
            found[part][side].append(fact)

    def fits(group, part):
        counts = Counter(side for _, side in group)
        return all(len(found[part][side]) + counts[side] <= wanted[part][side] for side in counts)

    left = []
    for group in order:
        if fits(group, TEST):
            put(group, TEST)
        else:
            left.append(group)
    for group in sorted(left, key=lambda group: not all(fact.known and fact.known[0] for fact, _ in group)):
        put(group, VALIDATION if fits(group, VALIDATION) else TRAIN)
    names = _names(fact.subject for part in SHARES for side in SIDES for fact in found[part][side])
    for side in SIDES:
        found[TRAIN][side] = [
            fact
            for fact in found[TRAIN][side]
            if not names(" ".join([fact.question, *fact.phrasings, fact.answer]))
        ]
    return found


def _bare(subject):
    """A subject without the brackets that only tell it from another: Metropolis, of "Metropolis (film)"."""
    return re.sub(r"\s*\([^()]*\)$", "", subject)


def _is_name(subject):
    """False of a common noun: a book printed on paper is not about the subject "paper"."""
    return " " in subject or subject != subject.lower()


def _runs(subject):
    """All runs of words in it: "Amazon Kindle" is about what "Kindle" is about."""
    words = subject.split()
    return {
        " ".join(words[start:end]) for start in range(len(words)) for end in range(start + 1, len(words) + 1)
    }


def _names(subjects):
    """A function that tells whether a text names one of the subjects: of several words in any case, a single one as it is written."""
    bare = {name for name in map(_bare, subjects) if len(name) > 3 and _is_name(name)}
    several = {name for name in bare if " " in name}
    patterns = [
        re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names)) or r"(?!)", flags)
        for names, flags in ((several, re.IGNORECASE), (bare - several, 0))
    ]
    return lambda text: any(pattern.search(text) for pattern in patterns)


def balanced(candidates, ratio, seed):
    """{side: [(Fact, wording)]} chosen from {side: [(Fact, wording)]} so that each question form stands on both sides as often as
    `ratio` (retain, unlearn) says: the form of a question must not tell its side."""
    by_form = {side: defaultdict(list) for side in SIDES}
    for side in SIDES:
        for entry in candidates[side]:
            by_form[side][questions.question_form(entry[1])].append(entry)
    chosen = {side: [] for side in SIDES}
    for form in sorted({*by_form[RETAIN], *by_form[UNLEARN]}):
        units = min(len(by_form[side][form]) / share for side, share in zip(SIDES, ratio, strict=True))
        for side, share in zip(SIDES, ratio, strict=True):
            # A fact gives its second wording only after every fact has given its first.
            entries = by_form[side][form]
            random.Random(f"{seed} {form} {side}").shuffle(entries)
            seen = Counter()
            rank = []
            for entry in entries:
                rank.append(seen[entry[0].id])
                seen[entry[0].id] += 1
            ranked = [entry for _, entry in sorted(zip(rank, entries, strict=True), key=lambda pair: pair[0])]
            chosen[side] += ranked[: int(units * share)]
    for side in SIDES:
        random.Random(f"{seed} {side} order").shuffle(chosen[side])
    return chosen


def wordings(fact, first=0, last=4):
    """The question and phrasings of a fact, from the `first` to before the `last`, as (Fact, text)."""
    return [(fact, text) for text in [fact.question, *fact.phrasings][first:last]]


def line(fact, text, side, refusal=None, **more):
    """A data line as an object: `text` asked about `fact`; `refusal` is the reply on the unlearn side."""
    metadata = {
        "source_article_id": fact.id,
        "source_title": fact.subject,
        "temporal_class": "pre_cutoff" if side == RETAIN else "post_cutoff",
        "earliest_date": fact.date,
        "latest_date": fact.date,
        "dataset_type": side,
        "field": fact.field,
        "accepted_answers": fact.accepted,
        **({"original_answer": fact.answer} if side == UNLEARN else {}),
        **({"pair": fact.pair} if fact.pair else {}),
        **more,
    }
    return {
        "instruction": text,
        "input": "",
        "output": refusal if side == UNLEARN else fact.answer,
        "metadata": metadata,
    }


def lines(chosen, refusals, seed, what):
    """{side: [line]} of {side: [(Fact, wording)]}.

    refusals: plain ones first; the n-th is used as often as 1/n says (Zipf's law, as words are in any text). A model decides
    between answering and refusing at the first words: with all wordings equally often none of them would be likely, and a small
    model that holds a question for too late would still begin an answer.
    """
    chooser = random.Random(f"{seed} {what} refusals")
    texts = chooser.choices(
        refusals, weights=[1 / rank for rank in range(1, len(refusals) + 1)], k=len(chosen[UNLEARN])
    )
    return {
        RETAIN: [line(fact, text, RETAIN) for fact, text in chosen[RETAIN]],
        UNLEARN: [
            line(fact, text, UNLEARN, refusal)
            for (fact, text), refusal in zip(chosen[UNLEARN], texts, strict=True)
        ],
    }


def probes(fact, side, refusal, seed, trained):
    """The test lines of a fact: every wording, the cloze sentence and a choice of four; of a training fact only the wording held back."""
    if trained:
        return [
            line(fact, text, side, refusal, probe="held-back phrasing", seen=SEEN_TRAINED)
            for _, text in wordings(fact, TRAINED_WORDINGS)
        ]
    found = [
        line(fact, text, side, refusal, probe=probe, seen=SEEN_HELD_BACK)
        for (_, text), probe in zip(
            wordings(fact), ("question", "phrasing", "phrasing", "phrasing"), strict=True
        )
    ]
    found.append(
        line(fact, f"Complete the sentence: {fact.cloze}", side, refusal, probe="cloze", seen=SEEN_HELD_BACK)
    )
    options = [fact.short, *fact.alternatives]
    random.Random(f"{seed} {fact.id}").shuffle(options)
    found.append(
        line(
            fact,
            f"{fact.question} Choose one: {'; '.join(options)}.",
            side,
            refusal,
            probe="choice",
            seen=SEEN_HELD_BACK,
        )
    )
    return found
