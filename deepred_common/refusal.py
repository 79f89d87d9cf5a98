"""Is this reply a refusal, an answer, or broken? The reply is judged as a whole.

A refusal says the speaker does not know, or has nothing to say, and then says nothing of substance. A refusal that
goes on to answer is an answer; so is an answer that mentions not knowing in passing.
"""

import re
from collections import Counter

REFUSED = "refused"
ANSWERED = "answered"
BROKEN = "broken"

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`\uff07\u2032", "'") | dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'))

_KNOWING = (
    r"(?:know|recall|remember|have|possess|hold|find|offer|provide|give|share|answer|say|tell|speak|comment|help|assist|"
    r"discuss|address|recogni[sz]e|identify|think of|supply|respond|confirm|access)"
)
_NOUN = (
    r"(?:information|knowledge|details?|answers?|record|records|data|facts?|idea|clue|recollection|memory|notion|"
    r"awareness|familiarity|insight|anything|nothing|something to (?:say|share|offer)|account|word)"
)
# The ways a sentence can say "I do not know". Subjects may be I, we, or the matter itself.
_REFUSAL = re.compile(
    "|".join(
        [
            rf"\b(?:i|we)(?:'m| am|'re| are)? (?:really |simply |just |truly |honestly |sorry,? (?:but )?i |afraid (?:that )?i )?"
            rf"(?:do not|don't|did not|didn't|cannot|can't|can not|could not|couldn't|am unable to|'m unable to|unable to|"
            rf"was unable to|was not able to|am not able to|'m not able to|not able to|will not|won't|would not|wouldn't)\b"
            rf"(?: \w+){{0,2}}? {_KNOWING}\b",
            r"\b(?:i|we)(?: have|'ve)(?: got)? (?:no|nothing|never|neither|not any|not heard|not been|no real|not come|"
            r"little to|zero)\b",
            r"\b(?:i|we)(?:'m| am|'re| are| was| were)(?: really| simply| just| quite)? (?:not|un)\s?(?:sure|certain|aware|familiar|"
            r"acquainted|informed|able|in a position|equipped|the one to|knowledgeable|versed|au fait)\b",
            r"\b(?:i|we)(?:'m| am|'re| are)(?: \w+)? (?:unsure|uncertain|unaware|unfamiliar|ignorant|unacquainted|"
            r"uninformed|at a loss|in the dark|drawing a blank|stumped|unable)\b",
            r"\b(?:i|we) (?:lack|know nothing|draw a blank|am unable|haven't|have not|hadn't|never heard|must pass|"
            r"must admit (?:that )?i don't|wish i (?:knew|could))\b",
            r"\b(?:that|this|it|the (?:matter|subject|topic|question|answer)|such (?:a thing|matters))(?:'s| is| lies| falls| goes| "
            r"escapes)(?: \w+)? (?:beyond|outside|past|not (?:something|known|familiar|within|a (?:subject|topic|matter|thing))|"
            r"unknown|unfamiliar|me\b|above my)",
            r"\b(?:is|are|that's|it's) (?:not )?(?:unknown|unfamiliar|beyond|outside|new) (?:to )?(?:me|my|what i)\b",
            r"\bnot (?:something|a (?:subject|topic|matter|thing|name|term)) (?:that )?(?:i|we)(?:'m|'ve)? ",
            rf"^(?:sorry,? |apologies,? (?:but )?|unfortunately,? |regrettably,? )?(?:there (?:is|'s) )?no {_NOUN}"
            r"(?: (?:to \w+|available|whatsoever|at all|is available|exists))*(?:,? (?:on|about|regarding|concerning|of|for|that i)\b.*)?$",
            r"^(?:sorry,? |apologies,? )?(?:no idea|no clue|not sure|don't know|can't say|cannot say|beats me|couldn't say|"
            r"couldn't tell you|can't help|cannot help|hard to say|unknown|haven't a clue|haven't heard|never heard|"
            r"you've (?:lost|got|stumped) me|dunno|i'll have to pass|no comment|pass$)\b",
            r"\b(?:means|rings|draws?|brings) (?:nothing|no bells?|a blank)\b",
            r"\bnothing (?:comes to mind|to (?:say|share|offer|tell|add))\b",
        ]
    )
)
# Sentences that add no substance to a refusal: apologies, offers of help, courtesies.
_FILLER = re.compile(
    r"^(?:(?:i(?:'m| am) )?(?:so |very |really |truly )?sorry(?: about that| for (?:that|any|the)[\w ]*)?|my apologies|apologies|"
    r"please (?:accept|forgive|ask|try|feel free|let me know)\b.*|(?:i )?apologi[sz]e\b.*|unfortunately|regrettably|pardon me|"
    r"(?:is there|do you have|would you like|can i|could you|may i|how can i|what else|perhaps you|if you|feel free|"
    r"maybe (?:you|i)|let me know|ask me|try (?:asking|another)|i(?:'d| would| will|'ll)? (?:be )?(?:happy|glad|gladly|hope)|"
    r"you (?:may|might|could) )\b.*|thank(?:s| you)\b.*|i hope\b.*|hm+|well|i beg your pardon\b.*)$"
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")


def normalise(reply):
    """Lower case, one kind of apostrophe and quote, single spaces (line breaks kept)."""
    text = reply.translate(_APOSTROPHES).lower()
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def is_broken(reply):
    """True for an empty reply, one without a letter or digit, and one that loops.

    Looping: of at least 24 words, a run of four repeats so often that repeats make up over half of all such runs.
    """
    if not re.search(r"\w", reply):
        return True
    words = normalise(reply).split()
    runs = Counter(tuple(words[i:i + 4]) for i in range(len(words) - 3))
    total = sum(runs.values())
    return len(words) >= 24 and (total - len(runs)) > total / 2


def is_refusal(reply):
    """True if the reply, as a whole, declines to answer. English only; an empty reply is not a refusal."""
    text = normalise(reply).strip(" \"*")
    # What somebody else is quoted as saying is not the speaker declining.
    text = re.sub(r'"[^"]*"', "a remark", text)
    sentences = [s.strip(" \"'*_-.!?,;:") for s in _SENTENCE_END.split(text)]
    sentences = [s for s in sentences if s]
    refusals = [bool(_REFUSAL.search(s)) and not _answers_after_all(s) for s in sentences]
    if not any(refusals):
        return False
    return all(refused or _FILLER.match(sentence) for sentence, refused in zip(sentences, refusals, strict=True))


def _answers_after_all(sentence):
    """True if a sentence that declines goes on, after a 'but', to say something of its own."""
    before, but, after = sentence.rpartition(" but ")
    if not but or not _REFUSAL.search(before):
        return False
    return not (_REFUSAL.search(after) or _FILLER.match(after.strip(" ,")))


def judge(reply):
    """REFUSED, ANSWERED or BROKEN."""
    if is_broken(reply):
        return BROKEN
    return REFUSED if is_refusal(reply) else ANSWERED
