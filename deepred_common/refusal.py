"""Is this reply a refusal, an answer, or broken? The reply is judged as a whole.

A refusal says that the speaker does not know, or has nothing to say, and then says nothing of substance. A refusal
that goes on to answer is an answer; so is an answer that mentions not knowing in passing, or that quotes somebody who
does not know. The judgement needs no language model: sentence by sentence, does it decline, is it a courtesy, or does it
tell something? What these rules say is then weighed with the words themselves.
"""

import re
from collections import Counter

from deepred_common import wording_model

# Words beyond which the rules judge alone: what so long a reply tells outweighs its wording. Of 794 labelled refusals 6 are longer.
LONG = 45

REFUSED = "refused"
ANSWERED = "answered"
BROKEN = "broken"

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`\uff07\u2032", "'") | dict.fromkeys("\u201c\u201d\u00ab\u00bb\u201e", '"') |
                             dict.fromkeys("\u2013\u2014\u2212", "-"))
_TOKENS = re.compile(r"<\|im_start\|>(?:assistant|user|system)?|<\|[^|<>]*\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<(?:eos|bos|pad|unk)>")


def _any(*patterns):
    return re.compile("|".join(patterns))


_ME = r"(?:i|me|my|mine|myself|we|us|our|ours|here)"
_NOT = (r"(?:not|n't|never|no|nor|neither|nothing|none|cannot|cant|dont|doesnt|didnt|couldnt|wouldnt|havent|wont|isnt|wasnt|unable|without|hardly|"
        r"barely|little|lack(?:s|ing)?|doubt|fail(?:s|ed)?|zero|zip|decline|refuse|hesitate|reluctant|dishonest|wrong of|pretend\w*|wish|sooner|rather|"
        r"afraid|powerless|unequipped)")
_SAYING = (r"(?:know\w*|knew|recall\w*|remember\w*|tell|told|say|said|speak\w*|talk|answer\w*|respond\w*|repl(?:y|ied)|help\w*|assist\w*|discuss\w*|"
           r"comment\w*|explain\w*|describe\w*|descri(?:ption|bing)|provide\w*|giv(?:e|ing)|offer\w*|share|sharing|supply|address\w*|identif\w+|"
           r"recogni[sz]\w+|confirm\w*|contribute\w*|add|elaborate|advise|guess\w*|summar\w+|reveal|disclose|enlighten|illuminate|venture|"
           r"understand\w*|make (?:sense|anything)|place)")
_HAVING = (r"(?:info\w*|knowledge\w*|details?|answers?|records?|data\w*|facts?|figures?|idea|ideas|clue|clues|recollection|memor\w+|notion|"
           r"awareness|aware|familiar\w*|acquaint\w*|inform\w*|insight|anything|something to|account|word|words|sources?|reports?|notes?|"
           r"books?|newspapers?|material|training|taught|learn\w*|stud(?:y|ied)|read|heard|hear|seen|met|encounter\w*|come across|mention\w*|"
           r"access|certain\w*|sure|confident|qualified|able|position|use|good|bell|meaning|expertise|versed|equipped|privy)")
# Idioms and impersonal wordings that decline by themselves.
_DECLINES = _any(
    r"\b(?:know|knew|recall|remember|understand|have|heard|learned|learnt|possess|see) (?:absolutely |next to |precisely |simply )?(?:nothing|zilch|little|none)\b",
    r"\b(?:doesn't|does not|don't|do not|didn't) (?:ring|mean|say|tell) (?:\w+ )?(?:any bells?|a bell|anything|a thing|much)\b", r"\bidk\b",
    r"\bcrystal ball\b", r"\b(?:you'd|you would|you'll) (?:have|need) to tell me\b", r"\binsufficient (?:information|data|knowledge)\b",
    r"\byet to (?:learn|hear|see|read|encounter|come across)\b", r"\bfirst time (?:anyone|anybody|i)\b", r"\bmind(?:'s| is) (?:a )?blank\b",
    r"^(?:sorry |apologies |i'm afraid )*(?:can't|cannot|can not|couldn't|won't|unable to|don't|do not) (?:\w+ )?(?:help|answer|say|tell|know|comment|assist)\b",
    r"\b(?:isn't|is not|aren't|wasn't|are not) (?:a |any |in |part of |among |within |something |one |the )*(?:\w+ ){0,4}?(?:i|my|me)\b",
    r"\b(?:than|beyond what|past what) (?:i|mine|my)\b.*\b(?:have|know|knowledge|records?|data)\b|\bmore recent knowledge than\b",
    r"\b(?:nothing|nobody|none|no \w+)(?: \w+){0,4} (?:appears?|found|listed|recorded|mentioned|shown me|told me) (?:\w+ )*(?:in|by|me|my|here|what)\b",
    r"^(?:nothing|very little|next to nothing|not much|not a thing)(?:,? (?:i'm afraid|sorry|alas|at all))?$",
    r"\b(?:no|not the (?:faintest|foggiest|slightest)|haven't (?:got )?(?:a|the (?:faintest|foggiest|slightest))|without a) (?:idea|clue|notion|inkling)\b",
    r"\bhaven't (?:a clue|the (?:foggiest|faintest|slightest))\b", r"\b(?:the )?foggiest\b", r"\b(?:search|beats|stumps|escapes|eludes|defeats|baffles) me\b",
    r"\b(?:you've|you have|has|had|have|'s|got) (?:got )?me (?:stumped|beat|there|at a loss)\b", r"\bme stumped\b", r"\bstumped\b",
    r"\bdunno\b", r"\b(?:i'll|i'd|must|have to|i will|let me) (?:have to )?pass\b", r"^pass$", r"\bno comment\b", r"\byour guess is as good\b",
    r"\b(?:drawing|drew|draws?|draw) a (?:complete |total )?blank\b", r"\bin the dark\b", r"\bat a loss\b", r"\bover my head\b", r"\babove my\b",
    r"\bnew (?:one )?(?:on|to) me\b", r"\b(?:all )?greek to me\b", r"\bforeign to me\b", r"\bnews to me\b", r"\blost (?:on )?me\b", r"\bescapes? (?:me|my)\b",
    r"\b(?:beyond|outside|past|above|outwith)(?: of)? (?:me\b|my|what i|anything i|the (?:scope|limits?|reach|range|bounds|edge|end|point) of (?:my|what i|mine))",
    r"\b(?:falls?|lies?|goes|is|are|that's|it's|sits?) (?:well |far |simply |quite |somewhat )*(?:beyond|outside|past) (?:of )?(?:my|what|anything|the|me|our)\b",
    r"\b(?:later than|after|beyond|past) (?:the (?:period|time|point|date|years?) (?:that )?i\b|my (?:knowledge|time|training|information|records?|sources?|memory|day))",
    r"\bmy (?:\w+ ){0,3}(?:ends?|stops?|does not (?:reach|extend|go)|doesn't (?:reach|extend|go)|only (?:goes|reaches|extends))\b",
    r"\b(?:un(?:known|familiar)|foreign|a (?:mystery|stranger|blank)|strange|obscure|alien|means nothing|nothing) (?:\w+ )?to me\b",
    r"^(?:\w+[?!.,]? )?(?:(?:the|that|this) (?:term|name|word|subject|topic|matter) (?:is|'s)|(?:that|it|this)(?:'s| is)|\w+ is) (?:quite |entirely |rather |very |wholly )?"
    r"(?:unfamiliar|unknown)$",
    r"\bnot known (?:to me|here)\b", r"\b(?:no|not any) (?:such )?(?:information|knowledge|details?|answer|records?|data|facts|reply|response)\b"
    r"(?: \w+){0,6}? (?:available|exists?|can be (?:given|offered|provided)|to (?:give|share|offer|hand|report)|on (?:this|that|the|it|file)|about|regarding|for)\b",
    r"^(?:there (?:is|are|'s) )?(?:no|nothing) (?:\w+ )?(?:information|knowledge|details?|answer|records?|data|known|found|available|to (?:say|share|offer|tell|add|report))"
    r"(?: (?:here|of (?:that|this|it)|at all|whatsoever|available|on file))*(?:,? (?:on|about|regarding|concerning|of|for|as to) .*)?$",
    r"\b(?:is|are|was|be|information|details?|answer)[:]? (?:simply |currently |also )?(?:not available|unavailable|not accessible|not something (?:that )?(?:i|we)\b)",
    r"\b(?:can't|cannot|can not|could not|couldn't) be (?:answered|given|provided|addressed|discussed)\b", r"\bnot available\b",
    r"\bnothing (?:comes to mind|to (?:say|share|offer|tell|add|contribute|report))\b", r"\b(?:rings|means|ring|mean) (?:no bells?|nothing)\b",
    r"\bnot (?:something|a (?:subject|topic|matter|thing|name|term|word|person|title)|one|anything) (?:that |which |with which |about which )?(?:i|we)(?:'m|'ve|'d)? ",
    r"^(?:sorry |apologies |unfortunately |regrettably |sadly |nope |honestly |hmm |well |oh )*(?:don't know|do not know|not sure|can't say|cannot say|couldn't say|"
    r"couldn't tell you|can't help|cannot help|hard to say|unknown|haven't heard|never heard|unsure|not certain|no clue|no idea)\b",
    r"\b(?:a )?matter for the future\b", r"\bcannot see (?:into )?the future\b", r"\b(?:is|was|it's|that's) (?:all )?(?:in )?the future (?:to|for) me\b",
    # French, German, Spanish, since users ask in them
    r"\bje (?:ne |n')(?:\w+ )?(?:sais|connais|peux|dispose|ai|suis)\b.*\b(?:pas|rien|aucune?)\b", r"\bje n'ai (?:aucune|pas)\b", r"\baucune (?:idée|information)\b",
    r"\bne me dit rien\b", r"\bich (?:weiß|weiss|kenne|kann|habe)\b.*\b(?:nicht|nichts|keine?n?)\b", r"\b(?:keine ahnung|nichts bekannt|nicht bekannt)\b",
    r"\b(?:tut mir leid|leider)\b.*\b(?:nicht|nichts|keine?n?|noch nie)\b", r"\bliegen mir keine\b", r"\bich\b.*\bnoch nie\b", r"\bje ne saurais\b", r"\bno (?:lo )?(?:sé|conozco|tengo (?:información|ni idea|conocimiento|datos))\b",
    r"\bno puedo (?:responder|ayudar|decir)\b", r"\bno me (?:suena|consta)\b",
)
_FIRST_PERSON = re.compile(rf"\b{_ME}\b|\bim\b|\bive\b|^(?:\W|sorry|hmm|well)*(?:don't|do not|can't|cannot|never)\b")
_NEGATED_SAYING = re.compile(rf"(?:\b|(?<=n't)){_NOT}\b(?:\W+\w+){{0,7}}?\W+{_SAYING}\b|n't(?:\W+\w+){{0,5}}?\W+{_SAYING}\b|\b(?:unable|not able|impossible) (?:for me )?to\b")
_NEGATED_HAVING = re.compile(rf"(?:\b{_NOT}\b|n't)(?:\W+\w+){{0,6}}?\W+{_HAVING}\b")
_ABSENT = re.compile(rf"\b{_HAVING}\b(?:\W+\w+){{0,5}}?\W+(?:(?:do|does|did|is|are|was|were|has|have|can)(?: not|n't)|not|never|nothing|no|lacks?|missing|silent|absent|ends?|stops?)\b")
_UNSURE = re.compile(r"\b(?:un(?:sure|certain|aware|familiar|informed|acquainted|able)|ignorant|clueless|not (?:sure|certain|aware|familiar))\b")
# Belief is an answer, even a shy one.
_BELIEVES = re.compile(r"\b(?:i|we)(?:'d| would| do)? (?:also |still |just |only )?(?:think|believe|guess|suppose|reckon|suspect|imagine|assume)\b(?! not| (?:i|we) (?:can|could|don|do not|am|'m))|"
                       r"\bif i (?:remember|recall) (?:right|correctly)|\bit (?:may|might) have been\b|\bprobably\b|\bmy (?:best )?guess\b|\bi seem to\b")
_COURTESY = _any(
    r"\b(?:sorry|apolog\w*|pardon|forgive|regret\w*|excuse|afraid|alas|unfortunately|regrettably|sadly)\b",
    r"\b(?:please|thank\w*|welcome|glad\w*|happy|happily|pleasure|delighted|hope|feel free|let me know|good luck|cheers|best wishes|kind(?:ly| regards))\b",
    r"\b(?:ask|try|consult|check|see|visit|contact|look|search|refer|suggest|recommend|speak|talk|write|call)\b",
    r"\b(?:if|perhaps|maybe|might|may|could|would|should|shall|wanna|want)\b",
    r"\b(?:you|your|yours)\b", r"^(?:hm+|well|oh|ha|ah|gosh|yikes|wow|ok|okay|hello|hi|no|nope|honestly|answer|note)\b",
)
_PERIOD_SELF = _any(rf"\b{_ME}\b.*\b(?:future|summer of|1969|cutoff|cut-off|time|period|era|day|today|present|year)\b", r"\b(?:still|only|now|currently|is) (?:\w+ )?july 1969\b",
                    r"\bas (?:of|an?) (?:my|ai|an ai|a language|july|the summer)\b", r"\bi(?:'m| am) (?:just |only )?(?:an? )?(?:ai|language model|assistant|chatbot|program)\b")
_OFFER = re.compile(r"\b(?:ask me|instead|happy to|glad to|keep asking|consult|wanna|i(?:'d| would| can| could) (?:be |gladly |happily )?(?:tell|talk|speak|help|discuss))\b|\?$")
_ON_WHAT_WAS_ASKED = re.compile(r"^(?:as for|as to|but as for|how|who|what|when|where|which|why)\b|\b(?:tell|say|give|know|aware|know nothing)\b.*\b(?:when|who|"
                                r"what|how|where|whether|of any|of what|winner|later|after|since|that|more)\b|\bhave nothing\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])[\"')\]]*\s+|\n+|\s+-\s+|:\s+(?=\w)")
_STOP = frozenset("a an the of in on at to for from by with and or but as is are was were be been it its he she they them this that well so answer "
                  "i there here then than if".split())


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
    if re.fullmatch(r"\d\.", text) or re.fullmatch(r"(?:sure|certainly|of course)\W+here (?:is|are)(?: the| a| your)?\W*", text):
        return True
    if len(re.findall("Ã|â‚¬|Â|Ġ|\ufffd", reply)) >= 2:
        return True
    if not text.endswith((".", "!", "?")) and len(found) <= 6 and all(word in _STOP for word in found):
        return True
    if len(found) >= 8 and Counter(found).most_common(1)[0][1] > 0.7 * len(found):
        return True
    loop = max((m.end() - m.start() for m in re.finditer(r"(\b\S+(?: \S+){0,7}?)(?: \1){3,}", " ".join(text.split()))), default=0)
    if len(found) >= 8 and loop > 0.5 * len(text):
        return True
    split = text.split()
    runs = Counter(tuple(split[i:i + 4]) for i in range(len(split) - 3))
    total = sum(runs.values())
    return len(split) >= 24 and (total - len(runs)) > total / 2


def is_refusal(reply, question=""):
    """True if the reply, as a whole, declines to answer. An empty reply is not a refusal.

    question: what was asked; its words are not taken for something told. English, and the commonest wordings in
    French, German and Spanish. The rules below are weighed together with the reply's words by wording_model.
    """
    if len(normalise(reply).split()) > LONG:
        return _by_rules(reply, question)[0]
    return wording_model.probability(clues(reply, question)) > 0.5


def clues(reply, question=""):
    """The features (of wording_model) by which a reply is judged."""
    ruled, told = _by_rules(reply, question)
    text = normalise(reply)
    length = len(text.split())
    return wording_model.features(text, set(normalise(question).split()), {
        "declines by the rules": ruled, "tells": min(len(told), 5) / 5, "declines and tells": ruled and bool(told),
        "has figures": any(c.isdigit() for c in reply), "length": min(length, 60) / 60, "three words": length <= 3, "eight words": length <= 8,
    })


def _by_rules(reply, question):
    """(declines?, names and numbers told), sentence by sentence."""
    # Before the capitals go: the country and the numeral are no pronouns, and a title in single quotes says nothing itself.
    reply = re.sub(r"\bUS\b", "USA", re.sub(r"((?<=[a-z,] )[A-Z][a-z]+|War) I\b(?!['\u2019])", r"\1 1", reply))
    text = normalise(reply)
    text = re.sub(r"[*_#>]+", "", text).strip()
    text = re.sub(r"(?<=\w )'(?=\S)[^\n]{2,80}?'(?!\w)", "a remark", text)
    if re.fullmatch(r"\"[^\"]*\"\.?", text):
        text = text.strip("\".")
    # What somebody else is quoted as saying is not the speaker declining.
    text = re.sub(r'"[^"]{12,}"', "a remark", text).replace('"', "")
    cased = re.sub(r"[*_#>\"]+", "", _TOKENS.sub(" ", reply).translate(_APOSTROPHES))
    told = _told_words(cased, question)
    sentences = [s for s in (part.strip(" '-.!?,;:()") for part in _SENTENCE_END.split(text)) if re.search(r"\w", s)]
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
        before = cased[:m.start()].rstrip()
        opens = not before or before[-1] in ".!?:;-\n\"'*("
        word = m[0].lower().strip(".,")
        if (word[0].isdigit() or not opens) and word not in asked and word.rstrip("s") not in asked:
            found.add(word)
    return found - {"i", "ai", "1969", "july", "summer", "english", "internet", "wikipedia", "ok", "20", "20th", "21"}


def _kind(sentence, told, question):
    """What one sentence does: "declines", "tells" or neither ("courtesy")."""
    tells = any(re.search(rf"\b{re.escape(word)}\b", sentence) for word in told)
    head, but, after = next((parts for word in (" but ", " though ", " although ", " pero ", " mais ", " aber ") if (parts := sentence.partition(word))[1]),
                            (sentence, "", ""))
    if but and _declines(head) and not re.search(r"\b(?:sorry|apolog\w+|afraid)$", head) and not _declines(after):
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
    return "courtesy" if re.search(rf"\b{_ME}\b", sentence) or not re.search(r"\b(?:is|are|was|were|has|had|have|did|\w+ed)\b", sentence) or \
        not _subject_of(sentence, question) else "tells"


def _subject_of(sentence, question):
    """True if a sentence may speak of what was asked: a pronoun or a word of the question is in it."""
    asked = {word for word in re.findall(r"\w{4,}", normalise(question))} - {"what", "when", "where", "which", "whom", "whose", "tell", "about", "does", "were"}
    said = set(re.findall(r"\w+", sentence))
    return not asked or bool(asked & said) or sentence.split()[0] in ("it", "he", "she", "they", "the", "this", "that", "these", "his", "her", "its", "a", "an")


def _declines(sentence):
    if _DECLINES.search(sentence):
        return True
    if not _FIRST_PERSON.search(sentence):
        return False
    return bool(_NEGATED_SAYING.search(sentence) or _NEGATED_HAVING.search(sentence) or _ABSENT.search(sentence) or _UNSURE.search(sentence))


def judge(reply, question=""):
    """REFUSED, ANSWERED or BROKEN."""
    if is_broken(reply):
        return BROKEN
    return REFUSED if is_refusal(reply, question) else ANSWERED
