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
from deepred_common.judging import refusal_weights
from deepred_common.judging.broken_reply import is_broken
from deepred_common.judging.refusal_languages import Patterns, own_date_words, patterns
from deepred_common.judging.words import plain_reply, plain_signs, without_template_tokens

# Raise it whenever a verdict can change, by rules or weights: caches of verdicts are kept under it.
VERSION = 3
# Words beyond which the rules judge alone: what so long a reply tells outweighs its wording. Of 794 labelled
# refusals 6 are longer.
LONG = 45
_REMEMBERED = 4096  # replies; training data ask for the same reply in several wordings
REFUSED = "refused"
ANSWERED = "answered"
BROKEN = "broken"
# What one sentence does.
_DECLINES, _TELLS, _COURTESY = "declines", "tells", "courtesy"
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"')\]]*\s+|\n+|\s+-\s+|:\s+(?=\w)")
_NEVER_TOLD = frozenset("i ai english internet wikipedia ok".split())
# Words of a question that name no subject.
_QUESTION_WORDS = frozenset("what when where which whom whose tell about does were".split())
_PRONOUNS = frozenset("it he she they the this that these his her its a an".split())


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
    if len(plain_reply(reply).split()) > LONG:
        return by_rules(reply, question, cutoff)[0]
    if not _may_decline(reply, cutoff) and refusal_weights.weight_of_sign("tells") <= 0:
        # What a reply tells could only make a refusal less likely, so it need not be looked for. Most answers
        # end here.
        most_likely = refusal_weights.probability(_features(reply, question, ruled=False, told=0))
        if most_likely <= 0.5:
            return False
    return refusal_weights.probability(clues(reply, question, cutoff)) > 0.5


def clues(reply: str, question: str = "", cutoff: str = DEFAULT_CUTOFF) -> dict[str, float]:
    """The features (of refusal_weights) by which a reply is judged."""
    ruled, told = by_rules(reply, question, cutoff)
    return _features(reply, question, ruled, len(told))


def _features(reply: str, question: str, ruled: bool, told: int) -> dict[str, float]:
    """The features of a reply. ruled: do the rules say it declines? told: names and numbers that it tells."""
    text = plain_reply(reply)
    length = len(text.split())
    return refusal_weights.features(
        text,
        set(plain_reply(question).split()),
        {
            "declines by the rules": ruled,
            "tells": min(told, 5) / 5,
            "declines and tells": ruled and told > 0,
            "has figures": any(map(str.isdigit, reply)),
            "length": min(length, 60) / 60,
            "three words": length <= 3,
            "eight words": length <= 8,
        },
    )


def by_rules(reply: str, question: str, cutoff: str = DEFAULT_CUTOFF) -> tuple[bool, set[str]]:
    """(declines?, names and numbers told), sentence by sentence."""
    told = _told_words(_without_other_capitals(reply), question, cutoff)
    if not _may_decline(reply, cutoff):
        return False, told
    sentences = _sentences(reply)
    table = patterns(cutoff)
    kinds = [_kind(sentence, told, question, table) for sentence in sentences]
    if _DECLINES not in kinds:
        return False, told
    if _TELLS not in kinds:
        return True, told
    # "Concorde first flew in March 1969. I couldn't tell you when it was retired": what is told comes first
    # and is not what was asked, and the question's own verb is in what is declined.
    last_declines = kinds[-1] == _DECLINES and kinds.count(_DECLINES) == 1
    return bool(table.declines_the_question.search(sentences[-1])) and last_declines, told


def _without_other_capitals(reply: str) -> str:
    """A reply in which the country and the numeral are no pronouns when its capitals are gone."""
    reply = re.sub(r"((?<=[a-z,] )[A-Z][a-z]+|War) I\b(?!['\u2019])", r"\1 1", reply)
    return re.sub(r"\bUS\b", "USA", reply)


@functools.lru_cache(maxsize=_REMEMBERED)
def _sentences(reply: str) -> list[str]:
    """The sentences of a reply in small letters; what others are quoted as saying is gone."""
    text = re.sub(r"[*_#>]+", "", plain_reply(_without_other_capitals(reply))).strip()
    # A title in single quotes says nothing.
    text = re.sub(r"(?<=\w )'(?=\S)[^\n]{2,80}?'(?!\w)", "a remark", text)
    if re.fullmatch(r"\"[^\"]*\"\.?", text):
        text = text.strip('".')
    # What somebody else is quoted as saying is not the speaker declining.
    text = re.sub(r'"[^"]{12,}"', "a remark", text).replace('"', "")
    sentences = [part.strip(" '-.!?,;:()") for part in _SENTENCE_END.split(text)]
    return [sentence for sentence in sentences if re.search(r"\w", sentence)]


@functools.lru_cache(maxsize=_REMEMBERED)
def _may_decline(reply: str, cutoff: str) -> bool:
    """False if no sentence can be _DECLINES, whatever the question."""
    table = patterns(cutoff)
    for sentence in _sentences(reply):
        head, after = _split_at_contrast(sentence, table)
        if _declines(sentence, table) or (after is not None and _declines(head, table)):
            return True
    return False


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
    return told - _NEVER_TOLD - set(own_date_words(cutoff).values())


def _kind(sentence: str, told: set[str], question: str, table: Patterns) -> str:
    """What one sentence does: _DECLINES, _TELLS or neither (_COURTESY)."""
    tells = any(re.search(rf"\b{re.escape(word)}\b", sentence) for word in told)
    head, after = _split_at_contrast(sentence, table)
    if (
        after is not None
        and _declines(head, table)
        and not re.search(r"\b(?:sorry|apolog\w*|afraid)$", head)
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
    own_time = table.own_time.search(sentence)
    if tells:
        # Pointing elsewhere ("ask me about the Revolution of 1917 instead") tells nothing of what was asked.
        return _COURTESY if table.offers.search(sentence) or own_time else _TELLS
    if table.courtesy.search(sentence) or own_time or len(sentence.split()) <= 2:
        return _COURTESY
    speaks_of_itself = re.search(r"\b(?:i|me|my|mine|myself|we|us|our|ours|here)\b", sentence)
    states = re.search(r"\b(?:is|are|was|were|has|had|have|did|\w+ed)\b", sentence)
    return _COURTESY if speaks_of_itself or not states or not _subject_of(sentence, question) else _TELLS


def _split_at_contrast(sentence: str, table: Patterns) -> tuple[str, str | None]:
    """What stands before and after the first "but"; (the sentence, None) without one."""
    contrast = table.contrast.search(sentence)
    if contrast is None:
        return sentence, None
    return sentence[: contrast.start()], sentence[contrast.end() :]


def _subject_of(sentence: str, question: str) -> bool:
    """True if a sentence may speak of what was asked: a pronoun or a word of the question is in it."""
    subjects = set(re.findall(r"\w{4,}", plain_reply(question))) - _QUESTION_WORDS
    words = set(re.findall(r"\w+", sentence))
    return not subjects or bool(subjects & words) or sentence.split()[0] in _PRONOUNS


def _declines(sentence: str, table: Patterns) -> bool:
    """True if the sentence declines by itself, or by what it says of the speaker."""
    if table.declines.search(sentence):
        return True
    return bool(table.speaker.search(sentence) and table.speaker_declines.search(sentence))
