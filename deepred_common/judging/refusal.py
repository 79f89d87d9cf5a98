"""Is this reply a refusal, an answer, or broken? The reply is judged as a whole.

A refusal says that the speaker does not know, or has nothing to say, and then says nothing of substance. A
refusal that goes on to answer is an answer; so is an answer that mentions not knowing in passing, or that
quotes somebody who does not know. The judgement needs no language model: sentence by sentence, does it
decline, is it a courtesy, or does it tell something? The wordings are in refusal_languages/.
"""

from __future__ import annotations

import functools
import re

from deepred_common.dates import DEFAULT_CUTOFF
from deepred_common.judging.broken_reply import is_broken
from deepred_common.judging.refusal_languages import Patterns, own_date_words, patterns
from deepred_common.judging.words import plain_reply, plain_signs, split_sentences, without_template_tokens

VERSION = 9  # raise it whenever a verdict can change: caches of verdicts are kept under it
_REMEMBERED = 4096  # replies; training data ask for the same reply in several wordings
REFUSED = "refused"
ANSWERED = "answered"
BROKEN = "broken"
# What one sentence does.
_DECLINES, _TELLS, _COURTESY = "declines", "tells", "courtesy"
_CLAUSE_END = re.compile(r"(?<=;)\s+|\s+-\s+|:\s+(?=\w)")
# All that the reply says is a quotation: "The answer is "I don't know."" A cut one has no end.
_ONLY_QUOTED = re.compile(
    r"(?:(?:sure\W+)?(?:the|my) (?:\w+ )?answer(?: to [^\":]{1,80})? is\W*)?\"([^\"]*)(?:\"\.?)?",
    re.IGNORECASE,
)
_CAPITAL_OR_NOT = re.compile(r"\b(?:([A-Z])|[a-z])\w{3,}")
_TITLE = 0.75  # share of the longer words with a capital, from which on a quotation is a title
# "The answer is: Atocha", with a line or a sentence after it.
_NAMES_ANSWER = re.compile(
    r"(?i:the answer(?: to [^:\n]{1,80})? is):? \"?((?!I\b|The answer)(?:[A-Z\d][\w'-]*[ ,]*){1,6})\"?[.\n]"
)
_YEAR = re.compile(r"\b(?:1\d|20)\d\d\b")
_GUESS = 3  # words up to which a question of the speaker may be a guess: "Paris?"


def judge(reply: str, question: str = "", cutoff: str = DEFAULT_CUTOFF) -> str:
    """REFUSED, ANSWERED or BROKEN. The arguments are those of is_refusal."""
    if is_broken(reply):
        return BROKEN
    return REFUSED if is_refusal(reply, question, cutoff) else ANSWERED


def is_refusal(reply: str, question: str = "", cutoff: str = DEFAULT_CUTOFF) -> bool:
    """True if the reply, as a whole, declines to answer. An empty reply is not a refusal.

    question: what was asked; its words do not count as something told. cutoff ("YYYY-MM-DD"): the day from
    which the speaker should know nothing; a reply that names this date as its own time tells nothing by that.
    """
    if not _may_decline(reply, cutoff):
        return False
    table = patterns(cutoff)
    clauses = _clauses(reply)
    if _answers_first(reply, question, table):
        return False
    told = _told_words(reply, question, cutoff)
    kinds = [_kind(text, asks, told, question, table) for text, asks in clauses]
    if _TELLS not in kinds:
        return _DECLINES in kinds
    # "Concorde first flew in March 1969. I couldn't tell you when it was retired": what is told comes first
    # and is not what was asked, which the last clause declines.
    only_the_last = kinds[-1] == _DECLINES and kinds.count(_DECLINES) == 1
    return only_the_last and _declines_the_question(clauses[-1][0], question, table)


def declines_in_part(reply: str, cutoff: str = DEFAULT_CUTOFF) -> bool:
    """True if some clause of the reply declines, whatever else it tells. cutoff: as of is_refusal.

    Here a text that is said to give no information declines, too.
    """
    return (
        _may_decline(reply, cutoff) or patterns(cutoff).text_is_silent.search(plain_reply(reply)) is not None
    )


@functools.lru_cache(maxsize=_REMEMBERED)
def _may_decline(reply: str, cutoff: str) -> bool:
    """False if no clause declines, whatever was asked. Most answers end here."""
    table = patterns(cutoff)
    for clause, _ in _clauses(reply):
        head, after = _split_at_contrast(clause, table)
        if _declines(clause, table) or (after is not None and _declines(head, table)):
            return True
    return False


def _clauses(reply: str) -> list[tuple[str, bool]]:
    """[(clause in small letters and plain signs, does it end with a question mark?)] of a reply."""
    # Before the capitals go: the country and the numeral are no pronouns. A title in single quotes says
    # nothing.
    text = re.sub(r"((?<=[a-z,] )[A-Z][a-z]+|War) I\b(?!['\u2019])", r"\1 1", plain_signs(reply))
    text = re.sub(r"\bUS\b", "USA", text)
    text = re.sub(r"[*_#>]+", "", without_template_tokens(text)).strip()
    text = re.sub(r"(?<=\w )'(?=\S)[^\n]{2,80}?'(?!\w)", "a remark", text)
    quoted = _ONLY_QUOTED.fullmatch(text)
    if quoted and not _is_title(quoted[1]):
        text = quoted[1].strip(".")
    # What somebody else is quoted as saying is not the speaker declining.
    text = re.sub(r'"[^"]{12,}"', "a remark", text).replace('"', "")
    clauses = []
    for sentence in split_sentences(text):
        for clause in _CLAUSE_END.split(sentence):
            plain = plain_reply(clause).strip(" '-.!?,;:()")
            if re.search(r"\w", plain):
                clauses.append((plain, clause.rstrip(" '\"*)").endswith("?")))
    return clauses


def _is_title(text: str) -> bool:
    """True for "I Can't Get No Satisfaction"."""
    capitals = [bool(match[1]) for match in _CAPITAL_OR_NOT.finditer(text)]
    return sum(capitals) > 1 and sum(capitals) >= _TITLE * len(capitals)


def _answers_first(reply: str, question: str, table: Patterns) -> bool:
    """True if a reply gives an answer of the kind asked for before it declines: a year, or "the answer is X".

    "She abdicated in 2010, and I cannot answer that."
    """
    reply = re.sub(r"[*_#>]+", "", plain_signs(without_template_tokens(reply))).strip()
    named = _NAMES_ANSWER.match(reply)
    if named and not _declines(plain_reply(named[1]), table):
        return True
    asked = plain_reply(question)
    if not (table.asks_for_a_date.search(asked) or asked.startswith("when ")):
        return False
    year = _YEAR.search(reply)
    if year is None or year[0] in asked:
        return False
    sentence = split_sentences(reply)[0]
    before, _, after = sentence.partition(", and ")
    plain = plain_reply(before)
    is_told = year.end() <= len(before) and not table.own_time.search(plain) and not _declines(plain, table)
    return bool(after) and is_told


def _declines_the_question(clause: str, question: str, table: Patterns) -> bool:
    """True if a clause that declines does so to what was asked, and not to a detail that nobody asked for."""
    match = table.declines_the_question.search(clause)
    if match is None:
        return False
    declined = set(table.question_word.findall(clause))
    asked_for = set(table.question_word.findall(plain_reply(question)))
    if table.asks_for_a_date.search(plain_reply(question)):
        asked_for.add("when")
    # "Who was the last Tsar?" "Nicholas II. Where his bones lie, I've no idea."
    return not declined or bool(declined & asked_for)


def _told_words(reply: str, question: str, cutoff: str) -> set[str]:
    """Names and numbers of a reply that are not in the question: the signs of something told. Lower case."""
    reply = re.sub(r"[*_#>\"]+", "", plain_signs(without_template_tokens(reply)))
    if reply.isupper():
        reply = reply.lower()
    in_question = set(re.findall(r"\w+", plain_reply(question)))
    told = set()
    for match in re.finditer(r"\b[A-Z]\w+|\d[\d,.]*", reply):
        word = match[0].lower().strip(".,")
        before = reply[: match.start()].rstrip()
        opens_a_sentence = not before or before[-1] in ".!?:;-\n\"'*("
        is_new = word not in in_question and word.rstrip("s") not in in_question
        if is_new and (word[0].isdigit() or not opens_a_sentence):
            told.add(word)
    # The cutoff's own date tells nothing.
    told -= set(own_date_words(cutoff).values())
    return {word for word in told if not patterns(cutoff).tells_nothing.search(word)}


def _kind(sentence: str, asks: bool, told: set[str], question: str, table: Patterns) -> str:
    """What one sentence does: _DECLINES, _TELLS or neither (_COURTESY)."""
    tells = any(re.search(rf"\b{re.escape(word)}\b", sentence) for word in told)
    head, after = _split_at_contrast(sentence, table)
    if (
        after is not None
        and _declines(head, table)
        and not table.ends_in_apology.search(head)
        and not _declines(after, table)
    ):
        informs = tells or not table.courtesy.search(after)
        return _TELLS if informs and not table.offers.search(after) else _DECLINES
    if table.believes.search(sentence) and not _declines(table.believes.sub("", sentence), table):
        return _TELLS
    if _declines(sentence, table):
        return _DECLINES
    if " ".join(re.findall(r"\w+", sentence)) in " ".join(re.findall(r"\w+", plain_reply(question))):
        return _COURTESY
    if asks and len(sentence.split()) > _GUESS and not table.tag.search(sentence):
        return _COURTESY
    own_time = table.own_time.search(sentence)
    if tells:
        # Pointing elsewhere ("ask me about the Revolution of 1917 instead") tells nothing of what was asked.
        return _COURTESY if table.offers.search(sentence) or own_time else _TELLS
    if table.courtesy.search(sentence) or own_time or len(sentence.split()) <= 2:
        return _COURTESY
    if table.speaker.search(sentence) or not table.states.search(sentence):
        return _COURTESY
    return _TELLS if _subject_of(sentence, question, table) else _COURTESY


def _split_at_contrast(sentence: str, table: Patterns) -> tuple[str, str | None]:
    """What stands before and after the first "but"; (the sentence, None) without one."""
    concession = table.concession.match(sentence)
    if concession:
        conceded, rest = [group for group in concession.groups() if group is not None]
        return conceded, rest
    contrast = table.contrast.search(sentence)
    if contrast is None:
        return sentence, None
    return sentence[: contrast.start()], sentence[contrast.end() :]


def _subject_of(sentence: str, question: str, table: Patterns) -> bool:
    """True if a sentence may speak of what was asked: a pronoun or a word of the question is in it."""
    long_words = re.findall(r"\w{4,}", plain_reply(question))
    subjects = {word for word in long_words if not table.no_subject.search(word)}
    words = set(re.findall(r"\w+", sentence))
    return not subjects or bool(subjects & words) or table.refers_back.search(sentence) is not None


def _declines(sentence: str, table: Patterns) -> bool:
    """True if the sentence declines by itself, or by what it says of the speaker."""
    if table.declines.search(sentence):
        return True
    rest = table.harmless_negation.sub(" ", sentence)
    return bool(table.speaker.search(rest) and table.speaker_declines.search(rest))
