"""Is this reply a refusal, an answer, or broken? The reply is judged as a whole.

A refusal says that the speaker does not know, or has nothing to say, and then says nothing of substance. A refusal
that goes on to answer is an answer; so is an answer that mentions not knowing in passing, or that quotes somebody who
does not know. The judgement needs no language model: sentence by sentence, does it decline, is it a courtesy, or does it
tell something? What these rules say is then weighed with the words themselves.
"""

import re
from collections import Counter

from deepred_common.judging import refusal_weights
from deepred_common.judging.refusal_patterns import (
    _ABSENT,
    _BELIEVES,
    _COURTESY,
    _DECLINES,
    _FIRST_PERSON,
    _ME,
    _NEGATED_HAVING,
    _NEGATED_SAYING,
    _OFFER,
    _ON_WHAT_WAS_ASKED,
    _PERIOD_SELF,
    _UNSURE,
)

VERSION = 2  # raise it whenever a verdict can change, by rules or weights: caches of verdicts are kept under it
# Words beyond which the rules judge alone: what so long a reply tells outweighs its wording. Of 794 labelled refusals 6 are longer.
LONG = 45
REFUSED = "refused"
ANSWERED = "answered"
BROKEN = "broken"
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4`\uff07\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u00ab\u00bb\u201e", '"')
    | dict.fromkeys("\u2013\u2014\u2212", "-")
)
_TOKENS = re.compile(
    r"<\|im_start\|>(?:assistant|user|system)?|<\|[^|<>]*\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<(?:eos|bos|pad|unk)>"
)
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"')\]]*\s+|\n+|\s+-\s+|:\s+(?=\w)")
_STOP = frozenset(
    "a an the of in on at to for from by with and or but as is are was were be been it its he she they them this that well so answer "
    "i there here then than if".split()
)


def normalise(reply):
    """Lower case, one kind of apostrophe, quote and dash, single spaces, no template tokens (line breaks kept)."""
    text = _TOKENS.sub(" ", reply).translate(_APOSTROPHES).lower()
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def is_broken(reply):
    """True for a reply that says nothing: empty, only markup or function words, garbled, or going round in a loop.

    Looping: one word makes up most of eight or more, or a run of words up to eight long, repeated one after the other
    four times or more, makes up over half of the reply, or of 24 words most runs of four have stood before.
    """
    text = normalise(reply)
    found = re.findall(r"\w+", text)
    if not any((len(word) > 1 and word not in _STOP) or word.isdigit() for word in found):
        return not re.fullmatch(r"\W*[a-z]\W*", text)  # a lone letter may be a formula, a grade, a vitamin
    if re.fullmatch(r"\d\.", text) or re.fullmatch(
        r"(?:sure|certainly|of course)\W+here (?:is|are)(?: the| a| your)?\W*", text
    ):
        return True
    if len(re.findall("Ã|â‚¬|Â|Ġ|\ufffd", reply)) >= 2:
        return True
    if not text.endswith((".", "!", "?")) and len(found) <= 6 and all(word in _STOP for word in found):
        return True
    if len(found) >= 8 and Counter(found).most_common(1)[0][1] > 0.7 * len(found):
        return True
    loop = max(
        (
            m.end() - m.start()
            for m in re.finditer(r"(\b\S+(?: \S+){0,7}?)(?: \1){3,}", " ".join(text.split()))
        ),
        default=0,
    )
    if len(found) >= 8 and loop > 0.5 * len(text):
        return True
    split = text.split()
    runs = Counter(tuple(split[i : i + 4]) for i in range(len(split) - 3))
    total = sum(runs.values())
    return len(split) >= 24 and (total - len(runs)) > total / 2


def is_refusal(reply, question=""):
    """True if the reply, as a whole, declines to answer. An empty reply is not a refusal.

    question: what was asked; its words are not taken for something told. English, and the commonest wordings in
    French, German and Spanish. The rules below are weighed together with the reply's words by refusal_weights.
    """
    if len(normalise(reply).split()) > LONG:
        return _by_rules(reply, question)[0]
    return refusal_weights.probability(clues(reply, question)) > 0.5


def clues(reply, question=""):
    """The features (of refusal_weights) by which a reply is judged."""
    ruled, told = _by_rules(reply, question)
    text = normalise(reply)
    length = len(text.split())
    return refusal_weights.features(
        text,
        set(normalise(question).split()),
        {
            "declines by the rules": ruled,
            "tells": min(len(told), 5) / 5,
            "declines and tells": ruled and bool(told),
            "has figures": any(c.isdigit() for c in reply),
            "length": min(length, 60) / 60,
            "three words": length <= 3,
            "eight words": length <= 8,
        },
    )


def _by_rules(reply, question):
    """(declines?, names and numbers told), sentence by sentence."""
    # Before the capitals go: the country and the numeral are no pronouns, and a title in single quotes says nothing itself.
    reply = re.sub(
        r"\bUS\b", "USA", re.sub(r"((?<=[a-z,] )[A-Z][a-z]+|War) I\b(?!['\u2019])", r"\1 1", reply)
    )
    text = normalise(reply)
    text = re.sub(r"[*_#>]+", "", text).strip()
    text = re.sub(r"(?<=\w )'(?=\S)[^\n]{2,80}?'(?!\w)", "a remark", text)
    if re.fullmatch(r"\"[^\"]*\"\.?", text):
        text = text.strip('".')
    # What somebody else is quoted as saying is not the speaker declining.
    text = re.sub(r'"[^"]{12,}"', "a remark", text).replace('"', "")
    cased = re.sub(r"[*_#>\"]+", "", _TOKENS.sub(" ", reply).translate(_APOSTROPHES))
    told = _told_words(cased, question)
    sentences = [
        s for s in (part.strip(" '-.!?,;:()") for part in _SENTENCE_END.split(text)) if re.search(r"\w", s)
    ]
    kinds = [_kind(sentence, told, question) for sentence in sentences]
    if "declines" not in kinds:
        return False, told
    if "tells" not in kinds:
        return True, told
    # "Concorde first flew in March 1969. I couldn't tell you when it was retired": what is told comes first and is not what
    # was asked, and the question's own verb is in what is declined.
    last_declines = kinds[-1] == "declines" and kinds.index("declines") == len(kinds) - 1
    return bool(_ON_WHAT_WAS_ASKED.search(sentences[-1])) and last_declines, told


def _told_words(cased, question):
    """Names and numbers of a reply that are not in the question: the signs of something told. Lower case."""
    asked = set(re.findall(r"\w+", normalise(question)))
    found = set()
    if cased.isupper():
        cased = cased.lower()
    for m in re.finditer(r"\b[A-Z]\w+|\d[\d,.]*", cased):
        before = cased[: m.start()].rstrip()
        opens = not before or before[-1] in ".!?:;-\n\"'*("
        word = m[0].lower().strip(".,")
        if (word[0].isdigit() or not opens) and word not in asked and word.rstrip("s") not in asked:
            found.add(word)
    return found - {
        "i",
        "ai",
        "1969",
        "july",
        "summer",
        "english",
        "internet",
        "wikipedia",
        "ok",
        "20",
        "20th",
        "21",
    }


def _kind(sentence, told, question):
    """What one sentence does: "declines", "tells" or neither ("courtesy")."""
    tells = any(re.search(rf"\b{re.escape(word)}\b", sentence) for word in told)
    head, but, after = next(
        (
            parts
            for word in (" but ", " though ", " although ", " pero ", " mais ", " aber ")
            if (parts := sentence.partition(word))[1]
        ),
        (sentence, "", ""),
    )
    if (
        but
        and _declines(head)
        and not re.search(r"\b(?:sorry|apolog\w+|afraid)$", head)
        and not _declines(after)
    ):
        return "tells" if (tells or not _COURTESY.search(after)) and not _OFFER.search(after) else "declines"
    if _BELIEVES.search(sentence) and not _declines(re.sub(_BELIEVES, "", sentence)):
        return "tells"
    if _declines(sentence):
        return "declines"
    if " ".join(re.findall(r"\w+", sentence)) in " ".join(re.findall(r"\w+", normalise(question))):
        return "courtesy"
    if tells:
        # Pointing elsewhere ("ask me about the Revolution of 1917 instead") tells nothing of what was asked.
        return "courtesy" if _OFFER.search(sentence) or _PERIOD_SELF.search(sentence) else "tells"
    if _COURTESY.search(sentence) or _PERIOD_SELF.search(sentence) or len(sentence.split()) <= 2:
        return "courtesy"
    return (
        "courtesy"
        if re.search(rf"\b{_ME}\b", sentence)
        or not re.search(r"\b(?:is|are|was|were|has|had|have|did|\w+ed)\b", sentence)
        or not _subject_of(sentence, question)
        else "tells"
    )


def _subject_of(sentence, question):
    """True if a sentence may speak of what was asked: a pronoun or a word of the question is in it."""
    asked = {word for word in re.findall(r"\w{4,}", normalise(question))} - {
        "what",
        "when",
        "where",
        "which",
        "whom",
        "whose",
        "tell",
        "about",
        "does",
        "were",
    }
    said = set(re.findall(r"\w+", sentence))
    return (
        not asked
        or bool(asked & said)
        or sentence.split()[0]
        in ("it", "he", "she", "they", "the", "this", "that", "these", "his", "her", "its", "a", "an")
    )


def _declines(sentence):
    if _DECLINES.search(sentence):
        return True
    if not _FIRST_PERSON.search(sentence):
        return False
    return bool(
        _NEGATED_SAYING.search(sentence)
        or _NEGATED_HAVING.search(sentence)
        or _ABSENT.search(sentence)
        or _UNSURE.search(sentence)
    )


def judge(reply, question=""):
    """REFUSED, ANSWERED or BROKEN."""
    if is_broken(reply):
        return BROKEN
    return REFUSED if is_refusal(reply, question) else ANSWERED
