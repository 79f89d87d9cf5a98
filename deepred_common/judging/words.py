"""Text to comparable words: one spelling for numbers, dates, accents, aliases and units, so that replies can be matched.

"forty-six" and 46, "XIV" and "the Fourteenth", 1944-06-16 and "June 16th, 1944", Gödel and Goedel come out alike.
Nothing here knows what is right or wrong.
"""

import calendar
import re
import unicodedata
from dataclasses import dataclass

_UNITS = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
        "nineteen".split()
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    word: value
    for value, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth "
        "seventeenth eighteenth nineteenth".split(),
        1,
    )
} | {
    "twentieth": 20,
    "thirtieth": 30,
    "fortieth": 40,
    "fiftieth": 50,
    "sixtieth": 60,
    "seventieth": 70,
    "eightieth": 80,
    "ninetieth": 90,
    "hundredth": 100,
}
_GROUPS = {"dozen": 12, "pair": 2, "couple": 2}
MONTHS = [month.lower() for month in calendar.month_name[1:]]
_MONTH_SHORT = {month[:3]: month for month in MONTHS} | {"sept": "september"}
_ROMAN = re.compile(r"(?=[XVI]{2,})(X{0,3})(IX|IV|V?I{0,3})$")
# Groups of names for one thing; the first stands for all. Written as they come out of the word splitter below.
_ALIASES = (
    ("united states", "united states of america", "usa", "u s a", "u s", "us", "america"),
    ("united kingdom", "uk", "u k", "great britain", "britain"),
    ("soviet union", "ussr", "u s s r"),
    ("myanmar", "burma"),
    ("netherlands", "holland"),
    ("czech republic", "czechia"),
    ("koran", "quran", "qur an"),
    ("new york city", "nyc"),
    ("los angeles", "la"),
    ("mercury", "quicksilver", "hg"),
    ("water", "h2o"),
    ("carbon dioxide", "co2"),
    ("tuberculosis", "tb"),
    ("femur", "thigh bone", "thighbone"),
    ("salt", "sodium chloride", "nacl"),
    ("television", "tv"),
    ("automobile", "car", "motor car", "motorcar"),
    ("aeroplane", "airplane", "plane"),
    ("film", "movie", "motion picture"),
    ("percent", "per cent"),
    ("color", "colour"),
    ("aluminum", "aluminium"),
    ("world war 1", "1 world war", "great war"),
    ("world war 2", "2 world war"),
    ("european union", "eu"),
    ("united nations", "un"),
    ("beijing", "peking"),
    ("mumbai", "bombay"),
    ("kolkata", "calcutta"),
    ("mecca", "makkah"),
    ("muslim", "moslem"),
    ("tsar", "czar"),
    ("christopher columbus", "cristobal colon"),
    ("mao zedong", "mao tse tung"),
    ("mahatma gandhi", "mohandas gandhi", "mohandas k gandhi", "mohandas karamchand gandhi"),
    ("kilometer", "kilometre", "kilometers", "kilometres", "km"),
    ("meter", "metre", "meters", "metres"),
    ("centimeter", "centimetre", "centimetres", "cm"),
    ("kilogram", "kg", "kilogramme", "kilograms"),
    ("gray", "grey"),
    ("theater", "theatre"),
    ("defense", "defence"),
    ("gasoline", "petrol"),
    ("football", "soccer"),
)
_NICKNAMES = {
    "teddy": "theodore",
    "bill": "william",
    "jack": "john",
    "bob": "robert",
    "dick": "richard",
    "tom": "thomas",
    "jim": "james",
    "jimmy": "james",
    "joe": "joseph",
    "mike": "michael",
    "tony": "anthony",
    "ike": "dwight",
    "abe": "abraham",
    "ben": "benjamin",
    "al": "albert",
    "kate": "katherine",
    "liz": "elizabeth",
    "maggie": "margaret",
    "nick": "nicholas",
    "ed": "edward",
    "fred": "frederick",
}
TITLES = frozenset(
    "mr mrs miss ms dr sir lord lady dame president king queen emperor general professor saint st pope prince princess captain "
    "admiral vice rear field marshal sergeant lieutenant colonel senator chancellor premier minister jr sr".split()
)


# What stands between two words. All else belongs to them: accents and vowel signs of any script, C++ and C#, 2 + 3 and 2 * 3.
_BETWEEN_WORDS = re.compile(
    r"(?:(?<=\w)[-‐‑–—/](?=\w)|(?<=[^\W\d]) [-–—] (?=[^\W\d])|[*_`]+(?=[^\W\d])|(?<=[^\W\d])[*_`]+|"
    "[\\s\u200b\u00ad!\"'()\\[\\]{}.,:;?…“”‘’„‹›«»´′¿¡、。，！？；：؟،۔।]+)+"
)


def plain_words(text: str) -> list[str]:
    """The words of a text in small letters, accents composed; numbers and signs such as + are words too."""
    return [word for word in _BETWEEN_WORDS.split(unicodedata.normalize("NFC", text).casefold()) if word]


@dataclass(frozen=True)
class Word:
    """One word: `text` in its comparable form, `capital` if it was written with one, `start` where it stood."""

    text: str
    capital: bool
    start: int
    end: int

    @property
    def number(self):
        """Its value, or None if it is no number."""
        return float(self.text) if re.fullmatch(r"\d+(\.\d+)?", self.text) else None


def fold(text):
    """One kind of apostrophe and dash, no accents. The case stays."""
    text = text.translate(
        str.maketrans("\u2018\u2019\u02bc\u00b4`\u2032\u2013\u2014\u2212\u2011", "''''''----")
    )
    text = unicodedata.normalize(
        "NFKD",
        text.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("ł", "l").replace("Ł", "L"),
    )
    return "".join(c for c in text if not unicodedata.combining(c))


def words(text):
    """The Words of `text`, in order, articles left out. Spans refer to fold(text)."""
    text = fold(text)
    # Dates in figures become day, month name, year; the month first only where it cannot be the day.
    found = [
        Word(m[0], m[0][0].isupper(), m.start(), m.end())
        for m in re.finditer(
            r"\d{1,2}/\d{1,2}/\d{4}|\d{4}-\d{2}-\d{2}|\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\d+(?:st|nd|rd|th)?(?![a-zA-Z\d])|%|"
            r"°\s?[CF]\b|[A-Za-z\d]+(?:'[a-z]{2,})?|[^\W\d_]+",
            text,
        )
    ]
    return _aliased(_numbered([part for word in found for part in _plain(word, text)]))


def _plain(word, text):
    """The comparable forms of one piece of text (none for an article, three for a date in figures)."""
    raw, low = word.text, word.text.lower()

    def made(*texts):
        return [Word(t, word.capital, word.start, word.end) for t in texts]

    if m := re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", raw):
        year, month, day = m.groups()
        return made(str(int(day)), MONTHS[int(month) - 1], year) if 1 <= int(month) <= 12 else made(raw)
    if m := re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{4})", raw):
        day, month, year = (int(x) for x in m.groups())
        if month > 12:
            day, month = month, day
        return made(str(day), MONTHS[month - 1], str(year)) if 1 <= month <= 12 else made(raw)
    if raw[0].isdigit() and re.fullmatch(r"[\d,.]+(?:st|nd|rd|th)?", raw):
        number = re.sub(r"st|nd|rd|th|,", "", raw)
        return made(re.sub(r"\.0+$", "", number) if "." in number else str(int(number)))
    if raw == "%":
        return made("percent")
    if raw.startswith("°"):
        return made("celsius" if raw.endswith("C") else "fahrenheit")
    if low in ("a", "an", "the"):
        return []
    if raw.isupper() and _ROMAN.fullmatch(raw) and re.search(r"[A-Z][a-z]+ $", text[: word.start]):
        return made(
            str(
                sum(
                    {"X": 10, "V": 5, "I": 1}[c]
                    * (-1 if c == "I" and raw[i + 1 : i + 2] in ("V", "X") else 1)
                    for i, c in enumerate(raw)
                )
            )
        )
    low = re.sub(r"'s$", "", low)
    low = _MONTH_SHORT.get(low, low) if word.capital else low
    return made(*(part for part in re.split(r"'", low) if part))


def _numbered(found):
    """Number words, alone or in a row, as figures: "one hundred and five" is 105, "3.5 million" is 3500000."""
    out, i = [], 0
    while i < len(found):
        total, part, j, last = 0, None, i, None
        while j < len(found):
            text = found[j].text
            # "nineteen forty-five" is two numbers to arithmetic and one year to a reader.
            if text in _TENS and part is not None and 10 <= part < 20 and last == "unit" and total == 0:
                part, last = part * 100 + _TENS[text], "tens"
            elif text in _TENS and last in (None, "scale", "and"):
                part, last = (part or 0) + _TENS[text], "tens"
            elif text in _UNITS and (
                last in (None, "scale", "and") or (last == "tens" and _UNITS[text] < 10)
            ):
                part, last = (part or 0) + _UNITS[text], "unit"
            elif text in _SCALES and last in ("unit", "tens", "figure", "scale", None):
                scale = _SCALES[text]
                if scale == 100 and last != "figure":
                    part = (part or 1) * 100
                else:
                    total, part = total + (part if part is not None else 1) * scale, None
                last = "scale"
            elif (
                last is None
                and found[j].number is not None
                and j + 1 < len(found)
                and found[j + 1].text in _SCALES
            ):
                part, last = found[j].number, "figure"
            elif (
                text == "and"
                and last == "scale"
                and j + 1 < len(found)
                and (found[j + 1].text in _UNITS or found[j + 1].text in _TENS)
            ):
                last = "and"
            elif text in _ORDINALS and (
                last in (None, "and", "scale") or (last == "tens" and _ORDINALS[text] < 10)
            ):
                part, last = (part or 0) + _ORDINALS[text], "done"
            elif text in _GROUPS and last in (None, "unit"):
                part, last = (part or 1) * _GROUPS[text], "done"
            else:
                break
            j += 1
            if last == "done":
                break
        if j > i:
            value = total + (part or 0)
            out.append(
                Word(
                    str(int(value)) if value == int(value) else str(value),
                    found[i].capital,
                    found[i].start,
                    found[j - 1].end,
                )
            )
            i = j
        else:
            out.append(found[i])
            i += 1
    return out


_ALIAS_OF = {tuple(name.split()): tuple(group[0].split()) for group in _ALIASES for name in group[1:]}
_ALIAS_LENGTH = max(map(len, _ALIAS_OF))


def _aliased(found):
    """Known other names for the same thing, replaced by the first of their group."""
    out, i = [], 0
    while i < len(found):
        for size in range(min(_ALIAS_LENGTH, len(found) - i), 0, -1):
            names = tuple(word.text for word in found[i : i + size])
            # "us" and "la" are names only in capitals.
            if names in _ALIAS_OF and (names not in (("us",), ("la",), ("un",)) or found[i].capital):
                out += [
                    Word(text, found[i].capital, found[i].start, found[i + size - 1].end)
                    for text in _ALIAS_OF[names]
                ]
                i += size
                break
        else:
            out.append(found[i])
            i += 1
    return out


def same(wanted, said):
    """True if two comparable words are one word: a plural, a longer form, a nickname, umlauts spelled out, a slip in a long word."""
    if wanted == said:
        return True
    if not (wanted.isalpha() and said.isalpha()):
        return False
    if wanted in (said + "s", said + "es") or said in (wanted + "s", wanted + "es"):
        return True
    if _NICKNAMES.get(said) == wanted or _NICKNAMES.get(wanted) == said:
        return True
    if len(wanted) >= 5 and said.startswith(wanted):
        return True
    flat_wanted, flat_said = (re.sub(r"(?<=[aou])e", "", word) for word in (wanted, said))
    if len(wanted) >= 5 and flat_wanted == flat_said:
        return True
    return (
        min(len(wanted), len(said)) >= 6
        and wanted[0] == said[0]
        and {wanted, said} != {"ireland", "iceland"}
        and _one_slip(wanted, said)
    )


def akin(wanted, said):
    """True if two words share a stem: "gravity" and "gravitational", "segregated" and "segregation"."""
    if same(wanted, said):
        return True
    short, long = sorted((wanted, said), key=len)
    if (
        len(short) >= 3
        and long[: len(short)] == short
        and long[len(short) :] in ("d", "ed", "ing", "n", "er", "ers", "ly")
    ):
        return True
    stem = min(len(wanted), len(said), max(5, min(len(wanted), len(said)) - 3))
    return (
        wanted.isalpha()
        and said.isalpha()
        and min(len(wanted), len(said)) >= 5
        and wanted[:stem] == said[:stem]
    )


def _one_slip(a, b):
    """True if one letter more, less, other, or two swapped make `a` into `b`."""
    if abs(len(a) - len(b)) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return (
        a[start + 1 :] == b[start + 1 :]
        or a[start:] == b[start + 1 :]
        or a[start + 1 :] == b[start:]
        or (a[start : start + 2] == b[start : start + 2][::-1] and a[start + 2 :] == b[start + 2 :])
    )
