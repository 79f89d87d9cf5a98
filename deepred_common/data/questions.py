"""Questions as text: their words, what tells two of them apart, their form."""

import re
import statistics
import unicodedata
from collections import Counter, defaultdict

from deepred_common.examples import SIDES


def first_words_accuracy(trained, asked):
    """How well the first three words of a question tell its side, learnt from `trained` and tried on `asked` (lists of lines): the
    mean of the two sides' shares told rightly, so that a coin's toss makes 0.5 of uneven sides too; None if `asked` lacks a side.
    Words never seen count by their first two or one, and as a coin's toss where those are even."""
    seen = defaultdict(Counter)
    totals = Counter(one["metadata"]["dataset_type"] for one in trained)

    def starts(text):
        words = re.findall(r"\w+", text.casefold())[:3]
        return [tuple(words[:count]) for count in range(len(words), 0, -1)]

    for one in trained:
        for start in starts(one["instruction"]):
            seen[start][one["metadata"]["dataset_type"]] += 1
    told = {side: [] for side in SIDES}
    for one in asked:
        counts = next((seen[start] for start in starts(one["instruction"]) if start in seen), Counter())
        shares = {side: counts[side] / max(1, totals[side]) for side in SIDES}
        leaders = [side for side in SIDES if shares[side] == max(shares.values())]
        side = one["metadata"]["dataset_type"]
        told[side].append((side in leaders) / len(leaders))
    return (
        sum(statistics.mean(of_side) for of_side in told.values()) / len(SIDES)
        if all(told.values())
        else None
    )


_COMMON = frozenset(
    "a an the of in on at to for with from is was are were be been did do does what which who whom whose "
    "name tell me give us can could you would please i like know and or it its that this".split()
)
_TENSES = {"was": "is", "are": "is", "were": "is"}
_OPENING = frozenset("please can could would will you tell me us name give do i like to know".split())


def telling_words(question):
    """(bag, row) of a question's telling words, as hashes: what asks the same more politely has the same row, in another order
    the same bag.

    With one such word ("Who is Bono?") all count but the opening ("Do you know …"), and their order does not.
    """
    all_words = words(question)
    telling = [word for word in all_words if word not in _COMMON]
    if len(set(telling) - {"when", "where", "why", "how"}) < 2:
        opening = next((i for i, word in enumerate(all_words) if word not in _OPENING), 0)
        telling = sorted(
            _TENSES.get(word, word)
            for word in all_words[opening:]
            if word not in ("please", "a", "an", "the")
        )
    return hash(frozenset(telling) or question), hash(tuple(telling) or question)


# Between two words. All else belongs to them: accents and vowel signs of any script, C++ and C#, 2 + 3 and 2 * 3.
_BETWEEN = re.compile(
    r"(?:(?<=\w)[-‐‑–—/](?=\w)|(?<=[^\W\d]) [-–—] (?=[^\W\d])|[*_`]+(?=[^\W\d])|(?<=[^\W\d])[*_`]+|"
    "[\\s\u200b\u00ad!\"'()\\[\\]{}.,:;?…“”‘’„‹›«»´′¿¡、。，！？；：؟،۔।]+)+"
)


def words(text):
    """The words of a text in small letters, accents composed; numbers and signs such as + are words too."""
    return [word for word in _BETWEEN.split(unicodedata.normalize("NFC", text).casefold()) if word]


def question_key(question):
    """A question without what does not change it: case, punctuation, spaces. Its hash, to keep little."""
    return hash(" ".join(words(question)) or question)


def question_form(question):
    """What kind of question it is, by its first words: what, who, when, where, which, why, how, tell me or other."""
    found = re.match(
        r"\W*(?:(?:at|by|for|from|in|into|of|off|on|to|under|with) )?"
        r"(what|who|whom|whose|when|where|which|why|how|tell me|describe|explain|name|give)\b",
        question.lower(),
    )
    if not found:
        return "other"
    return {
        "whom": "who",
        "whose": "who",
        **dict.fromkeys(("describe", "explain", "name", "give"), "tell me"),
    }.get(found[1], found[1])
