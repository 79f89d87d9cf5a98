"""Is an answer in a reply, and asserted there: not denied, set aside, or told as what others believe?"""

from __future__ import annotations

import re

from deepred_common.dates import MONTHS
from deepred_common.judging.comparable_words import comparable_words
from deepred_common.judging.names import TITLES
from deepred_common.judging.reference_answer import COMMON
from deepred_common.judging.same_word import same
from deepred_common.judging.words import NO_ABBREVIATION, SENTENCE_END, Word

Span = tuple[int, int]  # first word, and the place after the last
NEGATORS = frozenset(
    "not never neither nor no isn wasn aren weren didn doesn don unlike without cannot nobody none "
    "hardly".split()
)
# Others believe the clause, or it is about to be denied.
BELIEF = re.compile(
    r"\b(?:many|most|some|people|often|popularly|commonly|widely|sometimes|contrary)\b[^.;]{0,40}\b(?:say|"
    r"said|think|"
    r"thought|believe[sd]?|belief|assume[sd]?|claim(?:s|ed)?|mistaken|confused|misconception)\b"
    r"|\bas (?:many|some|people) (?:think|say|believe)\b|\bcontrary to\b|\bmistakenly\b|\bnot to be "
    r"confused with\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(r"\b(?:but|however|really|actually|in fact|it was|not)\b", re.IGNORECASE)
_CORRECTION = re.compile(
    r"(?:^|[.,;:!?-]\s*|\n)(?:sorry,? (?:that|this|i)\b[^.:;]*[.:;]|no,? wait\b|(?:hmm+,? )?wait[,.]|hang on|"
    r"no, you asked|oh,? no\b|on reflection|correction:?|actually,|scratch that|i mean(?:t)?\b|(?:that|this)"
    r"(?:'s| is) (?:not right|wrong|incorrect)[^.:;]*[.:;])",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    rf"(?<=[.!?]){NO_ABBREVIATION}[\"')\]]*\s+|\n+|[;:]\s|,\s(?!\d{{3}}\b)|\s-\s|\s\(|\)\s?|(?<=\s)"
    r"(?:and|but|while|whereas|although|though|since|after|before|when|because|so)\s",
    re.IGNORECASE,
)
# A negator before one of these denies nothing: "not only X", "no doubt it was X", "none other than X".
_DENY_NOTHING = (
    ["only"],
    ["just"],
    ["merely"],
    ["doubt"],
    ["question"],
    ["fewer", "than"],
    ["less", "than"],
    ["other", "than"],
)
_UNTIL = frozenset(("until", "till"))  # "it did not end until X" says that it ended then
_LASTING = frozenset("last live survive continue remain stay".split())  # but not "it did not last until X"
_SET_ASIDE = (["instead", "of"], ["rather", "than"])
_DENIED_AFTER = (
    ["had", "no"],
    ["did", "not"],
    ["was", "not"],
    ["is", "not"],
    ["does", "not"],
    ["were", "not"],
)
# Of a king or a ship, and of a feast: "I" alone is neither Justinian I nor Explorer I.
_NO_SURNAME = re.compile("[ivx]+|day")
_NEGATED_VERBS = ("didn", "wasn", "isn", "doesn", "never", "weren")
# The numbers below were set on the half "build" of datasets/labelled/grades.jsonl.
_NEAR = 5  # words before an answer in which a negation counts
_BELIEF_REACH = 30  # characters before a clause in which a belief still belongs to it
_RUN_TOGETHER = 6  # letters from which on "Mount Everest" and "mounteverest" are compared
_FIRST_NAMES = 3  # words before a surname that can be first names


def spans(answer: list[Word], reply: list[Word]) -> list[Span]:
    """Where `answer` stands in a reply: word by word, run together, by surname, or by its initials."""
    found = _literal_spans(answer, reply)
    if found or len(answer) < 2 or not all(word.text.isalpha() for word in answer):
        return found
    core = [word for word in answer if word.text not in TITLES]
    is_name = len(core) >= 2 and core[-1].capital and core[0].capital and all(w.text != "and" for w in core)
    if is_name and not _NO_SURNAME.fullmatch(core[-1].text):
        # In a reply that has capitals, "waters" is not Coniston Water, nor "deaths" the Black Death.
        has_capitals = any(word.capital for word in reply)
        for place, word in enumerate(reply):
            if (
                same(core[-1].text, word.text)
                and (word.capital or not has_capitals)
                and _ends_a_name(reply, place)
                and _first_name_fits(core, reply, place)
            ):
                found.append((place, place + 1))
    if found or len(answer) < 3:
        return found
    initials = "".join(word.text[0] for word in answer)
    return [(i, i + 1) for i, word in enumerate(reply) if word.text == initials and word.capital]


def _literal_spans(answer: list[Word], reply: list[Word]) -> list[Span]:
    size = len(answer)
    joined = "".join(word.text for word in answer)
    found = []
    for start in range(len(reply)):
        words = reply[start : start + size]
        if len(words) == size and all(same(a.text, b.text) for a, b in zip(answer, words, strict=True)):
            found.append((start, start + size))
            continue
        if len(joined) < _RUN_TOGETHER:
            continue
        for other_size in range(1, min(size + 2, len(reply) - start) + 1):
            together = "".join(word.text for word in reply[start : start + other_size])
            if other_size != size and together == joined:
                found.append((start, start + other_size))
    return found


def _ends_a_name(reply: list[Word], place: int) -> bool:
    """False if the name goes on after `place`.

    "Comet Encke" does not say Halley's Comet, nor "Treaty of Rome" Maastricht Treaty.
    """
    after, room = reply[place + 1 : place + 3], len(" ")
    if after and after[0].text == "of":
        after, room = after[1:], len(" of ")
    return not (after and after[0].capital and after[0].start - reply[place].end <= room)


def _first_name_fits(core: list[Word], reply: list[Word], place: int) -> bool:
    """False if what stands before the surname at `place` is another first name."""
    before: list[str] = []
    # "Guy's Hospital" is another one than "St Mary's Hospital"; "Mussolini's Italy" is Italy.
    inside = {"of", "s"} & {"of", *(word.text for word in core)}
    while place > 0 and len(before) < _FIRST_NAMES:
        previous = reply[place - 1]
        adjoins = previous.end >= reply[place].start - len("'s ")
        if not adjoins or not (previous.capital or previous.text in inside):
            break
        place -= 1
        if previous.capital:
            before.insert(0, previous.text)
    given = [word.text for word in core[:-1] if word.text != "s"]
    # A word that begins the sentence or is a title is no first name.
    names = [name for name in before if name not in TITLES and name not in COMMON]
    return all(any(_same_first_name(own, name) for own in given) for name in names)


def _same_first_name(own: str, name: str) -> bool:
    return same(own, name) or own[0] == name or (name[0] == own and len(own) == 1)


def first_asserted(answer: list[Word], words: list[Word], reply: str, question: list[Word]) -> Span | None:
    """The first span where `answer` is claimed in a reply (its text folded, and its words), or None.

    question: its words. Part of a name that the question gives ("tunnel" of "the Simplon Tunnel") claims
    nothing.
    """
    given = {word.text for word in question}
    for span in spans(answer, words):
        part = words[span[0] : span[1]]
        if len(part) < len(answer) and all(word.text in given for word in part):
            continue
        if is_asserted(span, words, reply):
            return span
    return None


def around(ends: re.Pattern[str], reply: str, start: int, end: int) -> Span:
    """(start, end) of the part of a reply, cut by the pattern `ends`, around its characters start to end."""
    left, right = 0, len(reply)
    for match in ends.finditer(reply):
        if match.end() <= start:
            left = match.end()
        if match.start() >= end:
            right = match.start()
            break
    return left, right


def is_asserted(span: Span, words: list[Word], reply: str) -> bool:
    """True if the words at `span` are claimed, not denied, set aside or reported as what others believe."""
    first, last = words[span[0]], words[span[1] - 1]
    left, right = around(_CLAUSE_END, reply, first.start, last.end)
    before = [word.text for word in words[: span[0]] if word.start >= left][-_NEAR:]
    after = [word.text for word in words[span[1] : span[1] + 3] if word.end <= right]
    is_date = first.number is not None or first.text in MONTHS
    for place in range(len(before)):
        if _is_negated_at(place, before) and not _is_until(before[place:], is_date):
            return False
    is_none_other = before[-2:] == ["other", "than"] and not NEGATORS.isdisjoint(before[-3:-2])
    if before[-2:] in _SET_ASIDE or (before[-1:] == ["than"] and first.number is None and not is_none_other):
        return False
    if after[:2] in _DENIED_AFTER or (after and after[0] in _NEGATED_VERBS):
        return False
    sentence_left, _ = around(SENTENCE_END, reply, first.start, last.end)
    belief = BELIEF.search(reply[sentence_left:right])
    if belief is None or not _DENIAL.search(reply[left:]):
        return True
    return belief.start() + sentence_left < left - _BELIEF_REACH


def _is_negated_at(place: int, words: list[str]) -> bool:
    """True if the word at `place` is a negator, and what follows does not turn it round ("no doubt")."""
    rest = words[place + 1 :]
    if rest[:1] == ["t"]:  # of "wasn't"
        rest = rest[1:]
    return words[place] in NEGATORS and not any(rest[: len(some)] == some for some in _DENY_NOTHING)


def _is_until(words: list[str], is_date: bool) -> bool:
    """True if the words from a negator on are such as "not until", or before a date "not end until"."""
    near = words if is_date else words[:3]  # "wasn t until"
    return not _UNTIL.isdisjoint(near) and _LASTING.isdisjoint(words)


def after_correction(reply: str) -> str:
    """What a reply says after taking back what it said before, or the whole of it."""
    corrections = list(_CORRECTION.finditer(reply))
    if not corrections or corrections[-1].start() == 0:
        return reply
    rest = reply[corrections[-1].end() :]
    return reply if len(rest.split()) < 2 else rest


def polarity(text: str) -> bool | None:
    """True for a text that opens with yes, False with no, else None."""
    match = re.match(r"\W*(yes|no(?! (?:doubt|question)))\b", text, re.IGNORECASE)
    return match[1].lower() == "yes" if match else None


def affirms(reply: str) -> bool:
    """True if a reply to a yes-or-no question says yes, or its first sentence negates nothing."""
    plain = polarity(reply)
    if plain is not None:
        return plain
    _, end = around(SENTENCE_END, reply, 0, 0)
    words = [word.text for word in comparable_words(reply[:end])]
    return not any(_is_negated_at(place, words) for place in range(len(words)))
