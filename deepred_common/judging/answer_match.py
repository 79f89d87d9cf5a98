"""Is a reply right against its reference answer? A matcher that reads clauses, numbers, names and contradictions.

It asks three things: does the answer stand in the reply, is it asserted there (not denied, hedged between alternatives
or told of something else), and does nothing that the reply says first speak against it.
"""

import itertools
import re

from deepred_common.judging import quantities
from deepred_common.dates import MONTHS
from deepred_common.judging.comparable_words import comparable_words, fold
from deepred_common.judging.names import TITLES
from deepred_common.judging.same_word import akin, same

_COMMON = frozenset(
    "of in on at to for from by with and or but as is are was were be been being it its he she his her him they their them this that these "
    "those which who whom whose what when where why how there here also into over under after before during between about than then has had "
    "have did do does not no known called named became become made because so such up out s t d ll re ve isn wasn aren weren didn doesn don "
    "used use can could would will may might must very more most other some any all each many much only just well around through against".split()
)
_ADJECTIVE_OF_PLACE = re.compile(
    r".{2,}(?:ese|ish|ians?|eans?|ic)$|^(?:french|dutch|german|greek|swiss|american|mexican|cuban|african|roman|"
    r"german|welsh|thai|czech|turk|arab)s?$"
)
_NEGATORS = frozenset(
    "not never neither nor no isn wasn aren weren didn doesn don unlike without cannot nobody none hardly".split()
)
# What says that others believe the clause, or that it is about to be denied.
_BELIEF = re.compile(
    r"\b(?:many|most|some|people|often|popularly|commonly|widely|sometimes|contrary)\b[^.;]{0,40}\b(?:say|said|think|thought|"
    r"believe[sd]?|belief|assume[sd]?|claim(?:s|ed)?|mistaken|confused|misconception)\b|\bas (?:many|some|people) (?:think|say|believe)\b"
    r"|\bcontrary to\b|\bmistakenly\b|\bnot to be confused with\b",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"(?:^|[.,;:!?-]\s*|\n)(?:sorry,? (?:that|this|i)\b[^.:;]*[.:;]|no,? wait\b|(?:hmm+,? )?wait[,.]|hang on|no, you asked|oh,? no\b|on reflection|correction:?|actually,|scratch that|"
    r"i mean(?:t)?\b|(?:that|this)(?:'s| is) (?:not right|wrong|incorrect)[^.:;]*[.:;])",
    re.IGNORECASE,
)
_HEDGE = re.compile(
    r"\b(?:either|maybe|perhaps|possibly|probably|might|may|could|not sure|unsure|whether|i think)\b",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|\n+|[;:]\s|,\s(?!\d{3}\b)|\s-\s|\s\(|\)\s?|(?<=\s)(?:and|but|while|whereas|although|though|since|after|before|"
    r"when|because|so)\s",
    re.IGNORECASE,
)
# Numbers keep their comma: "He died young, in 1791".
_NUMBER_CLAUSE_END = re.compile(
    r"(?<=[.!?])[\"')\]]*\s+|\n+|[;:]\s|(?<=\s)(?:and|but|while|whereas|although)\s", re.IGNORECASE
)
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bDr\.)(?<!\bMr\.)(?<!\bSt\.)(?<!\bMrs\.)[\"')\]]*\s+(?=[A-Z\"'(\d])|\n+"
)
# Questions that ask for an explanation rather than for a name, a number or a date.
_OPEN = re.compile(
    r"(?:what (?:is|are|was|were|happened|does|do|did)\b(?!.*\b(?:name|capital|called|title|currency|largest|smallest|longest|first|year|date|stand for)\b)"
    r"|why|how(?! (?:many|much|far|high|tall|long|old|big|deep|fast|often))|tell me|describe|explain|"
    # Of a person named, in questions without capitals, too; "who was the first …" asks for a name.
    r"(?-i:[Ww]ho (?:is|was|were) [A-Z])|(?-i:who (?:is|was|were) (?!(?:the|an?) )))",
    re.IGNORECASE,
)
_YES_NO = re.compile(
    r"^(?:is|are|was|were|do|does|did|can|could|has|have|had|will|would|should)\b", re.IGNORECASE
)
_COUNTING = re.compile(
    r"\b(?:how (?:many|much|far|high|tall|long|old|big|deep|fast|heavy|wide|large|hot|cold|often)|what (?:percentage|share|number|"
    r"temperature|fraction|age)|which number)\b",
    re.IGNORECASE,
)
_DATING = re.compile(r"^when\b|\b(?:what|which) (?:year|date|day|month|century|decade)\b", re.IGNORECASE)


def is_right(reply, reference, question, accepted=()):
    """True if `reply` gives the answer that `reference` gives to `question`. A refusal should be sorted out before.

    accepted: short strings any of which shows a right reply (a data line's metadata.accepted_answers). With none, what
    the reference says beyond the question is the measure: its date or number if the question asks for one, its names
    if it asks for names, else enough of its telling words.
    """
    reply = fold(reply)
    if comparable_words(reply) in [comparable_words(text) for text in (reference, *accepted)]:
        return True
    reply = _after_correction(reply)
    asked = comparable_words(question)
    if (
        _YES_NO.match(question)
        and (polarity := _polarity(reference)) is not None
        and _answer_is_yes_or_no(reference, accepted)
    ):
        return _polarity(reply, default=True) == polarity
    answers = [answer for text in accepted if (answer := comparable_words(text))]
    listed = False
    if not answers:
        answers, listed = _answers_in(reference, question, asked)
    if not answers:
        return _tells(reply, reference, asked)
    said = comparable_words(reply)
    found = [_first_asserted(answer, said, reply) for answer in answers]
    if listed and not all(found):
        return False
    found = [span for span in found if span]
    if not found:
        return False
    if _COUNTING.search(question) or _DATING.search(question):
        return _number_fits(answers, said, reply, question, asked, reference)
    if _OPEN.match(question):
        return True
    return not (
        _is_one_of_many(found[0], said, reply, reference)
        or _other_name_first(found, said, reply, question, asked)
    )


def mentions(reply, reference, question, accepted=()):
    """True if the answer stands anywhere in `reply`, claimed or not: what a refusal must not let slip.

    Words of the question do not count, nor does an explanation without a name, a number or an accepted string.
    """
    said, asked = comparable_words(fold(reply)), comparable_words(question)
    answers = [answer for text in accepted if (answer := comparable_words(text))] or _answers_in(
        reference, question, asked
    )[0]
    given = {word.text for word in asked}
    return any(_spans(answer, said) for answer in answers if not all(word.text in given for word in answer))


# ---- what the answer is ------------------------------------------------------------------------------------------------


def _is_year(word):
    return re.fullmatch(r"1\d{3}|20\d{2}", word.text) is not None


def _telling(reference, asked):
    return [
        word
        for word in comparable_words(reference)
        if word.text not in _COMMON and not any(same(word.text, other.text) for other in asked)
    ]


def _answers_in(reference, question, asked):
    """([answer as Words], all of them needed?) read out of a reference sentence; ([], False) if it is an explanation."""
    whole = comparable_words(reference)
    telling = _telling(reference, asked)
    if not telling:
        return [whole], False
    numbers = [word for word in telling if word.number is not None]
    if _DATING.search(question) and numbers:
        if re.search(r"\bcentury\b", question, re.IGNORECASE):
            return [[word] for word in numbers], False
        years = [word for word in numbers if _is_year(word)] or numbers[:1]
        if re.search(r"\b(?:date|day)\b", question, re.IGNORECASE):
            return [[word] for word in telling if word.number is not None or word.text in MONTHS], True
        return [[years[0]]], False
    if _COUNTING.search(question) and numbers:
        return [[numbers[0]]], False
    wants_all = re.search(
        r"\b(?:two|three|four|five|six|seven)\b|\bwhich \w+ [a-z]+s\b|\bwhat (?:are|were) the\b",
        question,
        re.IGNORECASE,
    )
    if (
        wants_all
        and re.search(r", .* and ", reference)
        and len(telling) <= 7
        and not any(word.capital for word in telling)
    ):
        return [[word] for word in telling], True
    if _OPEN.match(question) and not (wants_all and re.search(r", .* and ", reference)):
        return [], False
    names = _names(whole, telling)
    if not names:
        return ([telling], False) if len(telling) <= 2 else ([], False)
    if wants_all and len(names) > 1:
        return names, True
    return names[:1], False


def _names(whole, telling):
    """The runs of capitalised telling words of a sentence, adjectives of place only if there is nothing else."""
    runs, last = [], None
    for place, word in enumerate(whole):
        if (
            word in telling
            and (word.capital or (word.number is not None and last == place - 1))
            and word.text not in MONTHS
            and not _is_year(word)
        ):
            if last == place - 1 and runs:
                runs[-1].append(word)
            else:
                runs.append([word])
            last = place
    return [run for run in runs if not all(_ADJECTIVE_OF_PLACE.match(word.text) for word in run)] or runs


# ---- does it stand there, and is it asserted -----------------------------------------------------------------------------


def _spans(answer, said):
    """(first, last + 1) places where `answer` stands in `said`: word by word, run together, by surname, or by its initials."""
    size = len(answer)
    flat = "".join(word.text for word in answer)
    spans = []
    for i in range(len(said)):
        if i + size <= len(said) and all(
            same(a.text, s.text) for a, s in zip(answer, said[i : i + size], strict=True)
        ):
            spans.append((i, i + size))
            continue
        for other in range(1, size + 3):
            if (
                other != size
                and len(flat) >= 6
                and "".join(word.text for word in said[i : i + other]) == flat
            ):
                spans.append((i, i + other))
    if spans or size < 2 or not all(word.text.isalpha() for word in answer):
        return spans
    core = [word for word in answer if word.text not in TITLES]
    if len(core) >= 2 and core[-1].capital and core[0].capital and all(word.text != "and" for word in core):
        spans = [
            (i, i + 1)
            for i, word in enumerate(said)
            if same(core[-1].text, word.text) and _ends_a_name(said, i) and _first_name_fits(core, said, i)
        ]
    initials = "".join(word.text[0] for word in answer)
    return spans or [
        (i, i + 1) for i, word in enumerate(said) if size >= 3 and word.text == initials and word.capital
    ]


def _ends_a_name(said, place):
    """False if the name goes on after `place`: "Comet Encke" does not say Halley's Comet, nor "Treaty of Rome" Maastricht Treaty."""
    after, room = said[place + 1 : place + 3], len(" ")
    if after and after[0].text == "of":
        after, room = after[1:], len(" of ")
    return not (after and after[0].capital and after[0].start - said[place].end <= room)


def _first_name_fits(core, said, place):
    """False if what stands before the surname at `place` is another first name."""
    before = []
    # "Guy's Hospital" is another one than "St Mary's Hospital"; "Mussolini's Italy" is Italy.
    inside = {"of", "s"} & {"of", *(word.text for word in core)}
    while (
        place > 0
        and len(before) < 3
        and said[place - 1].end >= said[place].start - 3
        and (said[place - 1].capital or said[place - 1].text in inside)
    ):
        place -= 1
        if said[place].capital:
            before.insert(0, said[place].text)
    given = [word.text for word in core[:-1] if word.text != "s"]
    # A word that begins the sentence or is a title is no first name.
    before = [name for name in before if name not in TITLES and name not in _COMMON]
    return all(
        any(same(own, name) or own[0] == name or (name[0] == own and len(own) == 1) for own in given)
        for name in before
    )


def _first_asserted(answer, said, reply):
    return next((span for span in _spans(answer, said) if _asserted(span, said, reply)), None)


def _around(ends, reply, start, end):
    """(start, end) of the clause or sentence, as the pattern `ends` cuts them, around the characters start to end of `reply`."""
    left = max((m.end() for m in ends.finditer(reply) if m.end() <= start), default=0)
    right = next((m.start() for m in ends.finditer(reply) if m.start() >= end), len(reply))
    return left, right


def _asserted(span, said, reply):
    """True if the words at `span` are claimed, not denied, set aside or reported as what others believe."""
    first, last = said[span[0]], said[span[1] - 1]
    left, right = _around(_CLAUSE_END, reply, first.start, last.end)
    before = [word.text for word in said[: span[0]] if word.start >= left]
    after = [word.text for word in said[span[1] : span[1] + 3] if word.end <= right]
    near = before[-5:]
    for place, text in enumerate(near):
        if text in _NEGATORS and near[place + 1 : place + 2] not in (
            ["only"],
            ["until"],
            ["just"],
            ["merely"],
        ):
            return False
    if near[-2:] in (["instead", "of"], ["rather", "than"]) or (
        near[-1:] == ["than"] and first.number is None
    ):
        return False
    if after[:2] in (
        ["had", "no"],
        ["did", "not"],
        ["was", "not"],
        ["is", "not"],
        ["does", "not"],
        ["were", "not"],
    ) or (after and after[0] in ("didn", "wasn", "isn", "doesn", "never", "weren")):
        return False
    sentence_left, _ = _around(_SENTENCE_END, reply, first.start, last.end)
    clause = reply[sentence_left:right]
    belief = _BELIEF.search(clause)
    return not (
        belief
        and re.search(r"\b(?:but|however|really|actually|in fact|it was|not)\b", reply[left:], re.IGNORECASE)
        and belief.start() + sentence_left >= left - 30
    )


def _after_correction(reply):
    """What a reply says after taking back what it said before, or the whole of it."""
    last = next(reversed(list(_CORRECTION.finditer(reply))), None)
    if last is None or last.start() == 0 or len(reply[last.end() :].split()) < 2:
        return reply
    return reply[last.end() :]


# ---- does anything speak against it ---------------------------------------------------------------------------------------


def _number_fits(answers, said, reply, question, asked, reference):
    """For a question that asks for a number or a date: is it the number in the clause that speaks of what was asked?"""
    wanted = {word.text for answer in answers for word in answer if word.number is not None}
    if not wanted:
        return True
    dating = _DATING.search(question) is not None
    keys = [word.text for word in asked if word.text not in _COMMON and word.number is None]
    scored = []
    position = 0
    for part in [*_NUMBER_CLAUSE_END.finditer(reply), None]:
        end = part.start() if part else len(reply)
        inside = [(i, word) for i, word in enumerate(said) if position <= word.start < end]
        numbers = [
            (i, word)
            for i, word in inside
            if word.number is not None
            and (not dating or word.text in wanted or _is_year(word) or not any(len(w) == 4 for w in wanted))
            and _asserted((i, i + 1), said, reply)
        ]
        if numbers:
            score = sum(any(akin(key, word.text) for _, word in inside) for key in keys)
            scored.append((score, numbers))
        position = part.end() if part else end
    if not scored:
        return False
    best = max(score for score, _ in scored)
    chosen = [numbers for score, numbers in scored if score == best] if best else [scored[0][1]]
    if not any(word.text in wanted for numbers in chosen for _, word in numbers):
        # A date's day and month may stand in a clause of their own; a number in other units may be the same.
        return any(
            quantities.same_quantity(i, said, reference)
            or (not dating and quantities.about(word.number, wanted))
            for numbers in chosen
            for i, word in numbers
        )
    if _hedged_between(chosen, wanted, reply):
        return False
    return all(
        quantities.unit_fits(i, said, reference)
        for numbers in chosen
        for i, word in numbers
        if word.text in wanted
    )


def _hedged_between(chosen, wanted, reply):
    """True for "1912 or 1915": the right number offered beside another."""
    for numbers in chosen:
        for (_, one), (_, other) in itertools.pairwise(numbers):
            if (one.text in wanted) != (other.text in wanted) and re.fullmatch(
                r"[\s,]*or(?: (?:in|maybe|perhaps|possibly))?\s*", reply[one.end : other.start]
            ):
                return True
    return False


def _is_one_of_many(span, said, reply, reference):
    """True if the answer is offered as one of several alternatives, or stands in a list longer than the reference's."""
    first, last = said[span[0]], said[span[1] - 1]
    left, right = _around(_SENTENCE_END, reply, first.start, last.end)
    sentence = reply[left:right]
    around = reply[max(left, first.start - 30) : min(right, last.end + 30)]
    if (
        re.search(r"\bor\b", around)
        and not re.search(r"\bor\b", reference)
        and (
            re.search(r"\beither\b", sentence, re.IGNORECASE)
            or (_HEDGE.search(sentence) or len(sentence.split()) <= 8)
        )
    ):
        return True
    items = [item for item in re.split(r",\s*(?:and |or )?|\s+(?:and|or)\s+", sentence) if item]
    short = [item for item in items if len(item.split()) <= 3]
    return (
        len(items) >= 4
        and len(short) >= len(items) - 1
        and len(re.split(r",|\band\b", reference)) < len(items) / 2
    )


def _other_name_first(found, said, reply, question, asked):
    """True if a who-question's reply opens with somebody else as the doer and comes to the right name only later."""
    if not re.match(
        r"(?:who|whom|which (?:\w+ ){1,3}?(?:discovered|invented|wrote|led|painted|composed|founded))\b",
        question,
        re.IGNORECASE,
    ):
        return False
    _, end = _around(_SENTENCE_END, reply, 0, 0)
    if any(said[span[0]].start < end for span in found) or not said:
        return False
    opening = [word for word in said if word.start < end]
    if (
        not _asserted((0, 1), said, reply)
        or _BELIEF.search(reply[:end])
        or any(word.text in _NEGATORS for word in opening)
    ):
        return False
    doer = re.search(r"\b(?:by|was|is) (?:the [a-z]+ )?((?:[A-Z][\w.-]+ ?){2,4})", reply[:end])
    if doer and not any(same(word.text, other.text) for word in comparable_words(doer[1]) for other in asked):
        return True
    name = opening[0]
    return (
        name.capital
        and len(opening) > 1
        and name.text not in _COMMON
        and name.number is None
        and opening[1].capital
        and not any(same(name.text, word.text) for word in asked)
    )


# ---- explanations and yes or no --------------------------------------------------------------------------------------------


def _tells(reply, reference, asked):
    """True if a reply to an open question says enough of what the reference says: a third of its telling words, two at least."""
    telling = {word.text for word in _telling(reference, asked)}
    said = [word.text for word in comparable_words(reply)]
    numbers = {text for text in telling if text[0].isdigit()}
    if not telling:
        return False
    hits = sum(any(akin(text, other) for other in said) for text in telling - numbers) + len(
        numbers & set(said)
    )
    return hits >= min(len(telling), max(2, round(len(telling) * 0.34)))


def _answer_is_yes_or_no(reference, accepted):
    return (
        not accepted
        or any(text.strip().lower() in ("yes", "no") for text in accepted)
        or bool(re.match(r"(?:yes|no)\b", reference, re.IGNORECASE))
    )


def _polarity(text, default=None):
    """True for a yes, False for a no; `default` (or, with a default, what the first sentence's negations say) otherwise."""
    if m := re.match(r"\W*(yes|no)\b", text, re.IGNORECASE):
        return m[1].lower() == "yes"
    if default is None:
        return None
    _, end = _around(_SENTENCE_END, text, 0, 0)
    return default != any(word.text in _NEGATORS for word in comparable_words(text[:end]))
