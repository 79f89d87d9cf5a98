"""Text cut into words and sentences, with its signs in one spelling; nothing here knows what it means."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

_SIGNS = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\u00b4`\u2032\uff07", "'")
    | dict.fromkeys("\u201c\u201d\u00ab\u00bb\u201e", '"')
    | dict.fromkeys("\u2013\u2014\u2212\u2011", "-")
)
_TEMPLATE_TOKENS = re.compile(
    r"<\|im_start\|>(?:assistant|user|system)?|<\|[^|<>]*\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|"
    r"<(?:eos|bos|pad|unk)>"
)
# What stands between two words. All else belongs to them: accents and vowel signs of any script, C++ and C#,
# 2 + 3 and 2 * 3.
_BETWEEN_WORDS = re.compile(
    r"(?:(?<=\w)[-‐‑–—/](?=\w)|(?<=[^\W\d]) [-–—] (?=[^\W\d])|[*_`]+(?=[^\W\d])|(?<=[^\W\d])[*_`]+|"
    "[\\s\u200b\u00ad!\"'()\\[\\]{}.,:;?…“”‘’„‹›«»´′¿¡、。，！？；：؟،۔।]+)+"
)
# The characters of _BETWEEN_WORDS that always stand between two words, and those that only sometimes do.
_ALWAYS_BETWEEN = dict.fromkeys(map(ord, "\u200b\u00ad!\"'()[]{}.,:;?…“”‘’„‹›«»´′¿¡、。，！？；：؟،۔।"), " ")
_SOMETIMES_BETWEEN = frozenset("-‐‑–—/*_`")
# A point after an initial or one of these ends no sentence.
_ABBREVIATIONS = ("Dr", "Mr", "Ms", "St", "Jr", "Mt", "Mrs", "etc", "vs", "ca", "e.g", "i.e")
NO_ABBREVIATION = r"(?<!\b[A-Z]\.)" + "".join(rf"(?<!\b{re.escape(short)}\.)" for short in _ABBREVIATIONS)
SENTENCE_END = re.compile(rf"(?<=[.!?]){NO_ABBREVIATION}[\"')\]]*\s+|\n+")


@dataclass(frozen=True)
class Word:
    """One word: its comparable form, whether it was written with a capital, its span in the folded text."""

    text: str
    capital: bool
    start: int
    end: int

    @property
    def number(self) -> float | None:
        """Its value, or None if it is no number."""
        return float(self.text) if re.fullmatch(r"\d+(\.\d+)?", self.text) else None


def plain_signs(text: str) -> str:
    """One kind of apostrophe, quote and dash."""
    return text.translate(_SIGNS)


def without_template_tokens(reply: str) -> str:
    """A reply without the marks of a chat template that some models leave in it."""
    return _TEMPLATE_TOKENS.sub(" ", reply)


@functools.lru_cache(maxsize=4096)
def plain_reply(reply: str) -> str:
    """A reply in small letters and plain signs, with single spaces, line breaks and no template tokens."""
    text = plain_signs(without_template_tokens(reply)).lower()
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def plain_words(text: str) -> list[str]:
    """The words of a text in small letters, accents composed; numbers and signs such as + are words too."""
    text = unicodedata.normalize("NFC", text).casefold()
    if _SOMETIMES_BETWEEN.isdisjoint(text):
        return text.translate(_ALWAYS_BETWEEN).split()  # the same, ten times as fast
    return [word for word in _BETWEEN_WORDS.split(text) if word]


def split_sentences(text: str) -> list[str]:
    """The sentences and lines of a text, without the white space and closing quotes between them."""
    return [sentence for sentence in SENTENCE_END.split(text) if sentence.strip()]
