"""Is a reply right against its reference answer? A plain matcher: numbers, names and key words."""

import re
import unicodedata

_NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen twenty".split()
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
     "hundred": "100"}
_COMMON = frozenset(
    "a an the of in on at to for from by with and or but as is are was were be been being it its he she his her him they "
    "their them this that these those which who whom whose what when where why how there here first also into over under "
    "after before during between about than then has had have did do does not no known called named became become made "
    "one".split()
)


def words(text):
    """Lower-case words of `text`: accents removed, number words as digits, thousands separators and articles dropped."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if not unicodedata.combining(c)).lower()
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text).replace("\u2019", "'")
    text = re.sub(r"'s\b", "", text)
    found = re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text)
    return [_NUMBER_WORDS.get(word, word) for word in found if word not in ("a", "an", "the")]


def _same(wanted, said):
    # A plural or a longer form of the same word counts ("advertis" in "advertising"), but no number inside another.
    if said == wanted or (wanted.isalpha() and (said in (wanted + "s", wanted + "es") or wanted == said + "s")):
        return True
    return len(wanted) >= 5 and wanted.isalpha() and said.startswith(wanted)


def _stands_in(answer, reply):
    """True if the words of `answer` stand in a row in `reply`, with no 'not' just before them."""
    size = len(answer)
    for i in range(len(reply) - size + 1):
        if all(map(_same, answer, reply[i:i + size])) and "not" not in reply[max(0, i - 2):i]:
            return True
    return False


def _count(wanted, said):
    return sum(any(_same(word, other) for other in said) for word in wanted)


def is_right(reply, reference, question, accepted=()):
    """True if `reply` gives the answer that `reference` gives to `question`.

    accepted: short strings any of which shows a right reply (a data line's metadata.accepted_answers). With none,
    the reference sentence is the measure. Its telling words are those that are not in the question. Its years must be
    in the reply (its other numbers, if it has no year), and then a quarter of the telling words; without numbers,
    half of them, or all if there are no more than two. A refusal should be sorted out before.
    """
    said = words(reply)
    if accepted:
        return any(_stands_in(words(answer), said) for answer in accepted if words(answer))
    asked = words(question)
    telling = {word for word in words(reference) if word not in _COMMON and not _count([word], asked)}
    numbers = {word for word in telling if word[0].isdigit()}
    years = {word for word in numbers if re.fullmatch(r"1\d{3}|20\d{2}", word)}
    names = telling - numbers
    if not telling:  # the reference only repeats the question: nothing but the whole of it will do
        return _stands_in(words(reference), said)
    if numbers:
        return (years or numbers) <= set(said) and _count(names, said) >= len(names) // 4
    return _count(names, said) >= (len(names) if len(names) <= 2 else (len(names) + 1) // 2)
