"""Other names for the same thing or person, and titles that are no part of a name."""

from __future__ import annotations

from deepred_common.judging.words import Word

# Groups of names for one thing; the first stands for all. Written as comparable words.
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
NICKNAMES = {
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
    "mr mrs miss ms dr sir lord lady dame president king queen emperor general professor saint st pope "
    "prince "
    "princess captain admiral vice rear field marshal sergeant lieutenant colonel senator chancellor premier "
    "minister jr sr".split()
)
# Names only in capitals.
_ONLY_IN_CAPITALS = (("us",), ("la",), ("un",))
_ALIAS_OF = {tuple(name.split()): tuple(group[0].split()) for group in _ALIASES for name in group[1:]}
_ALIAS_LENGTH = max(map(len, _ALIAS_OF))


def with_first_names(words: list[Word]) -> list[Word]:
    """The words with known other names for the same thing replaced by the first of their group."""
    renamed: list[Word] = []
    place = 0
    while place < len(words):
        size = _alias_at(words, place)
        if size:
            alias = words[place : place + size]
            first_name = _ALIAS_OF[tuple(word.text for word in alias)]
            renamed += [Word(text, alias[0].capital, alias[0].start, alias[-1].end) for text in first_name]
        else:
            renamed.append(words[place])
        place += size or 1
    return renamed


def _alias_at(words: list[Word], place: int) -> int:
    """How many words from `place` on are a known other name; 0 if none."""
    for size in range(min(_ALIAS_LENGTH, len(words) - place), 0, -1):
        texts = tuple(word.text for word in words[place : place + size])
        if texts in _ALIAS_OF and (texts not in _ONLY_IN_CAPITALS or words[place].capital):
            return size
    return 0
