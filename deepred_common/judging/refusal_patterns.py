"""The patterns by which refusals are recognised."""

import re


def _any(*patterns):
    return re.compile("|".join(patterns))


_ME = r"(?:i|me|my|mine|myself|we|us|our|ours|here)"
_NOT = (
    r"(?:not|n't|never|no|nor|neither|nothing|none|cannot|cant|dont|doesnt|didnt|couldnt|wouldnt|havent|wont|isnt|wasnt|unable|without|hardly|"
    r"barely|little|lack(?:s|ing)?|doubt|fail(?:s|ed)?|zero|zip|decline|refuse|hesitate|reluctant|dishonest|wrong of|pretend\w*|wish|sooner|rather|"
    r"afraid|powerless|unequipped)"
)
_SAYING = (
    r"(?:know\w*|knew|recall\w*|remember\w*|tell|told|say|said|speak\w*|talk|answer\w*|respond\w*|repl(?:y|ied)|help\w*|assist\w*|discuss\w*|"
    r"comment\w*|explain\w*|describe\w*|descri(?:ption|bing)|provide\w*|giv(?:e|ing)|offer\w*|share|sharing|supply|address\w*|identif\w+|"
    r"recogni[sz]\w+|confirm\w*|contribute\w*|add|elaborate|advise|guess\w*|summar\w+|reveal|disclose|enlighten|illuminate|venture|"
    r"understand\w*|make (?:sense|anything)|place)"
)
_HAVING = (
    r"(?:info\w*|knowledge\w*|details?|answers?|records?|data\w*|facts?|figures?|idea|ideas|clue|clues|recollection|memor\w+|notion|"
    r"awareness|aware|familiar\w*|acquaint\w*|inform\w*|insight|anything|something to|account|word|words|sources?|reports?|notes?|"
    r"books?|newspapers?|material|training|taught|learn\w*|stud(?:y|ied)|read|heard|hear|seen|met|encounter\w*|come across|mention\w*|"
    r"access|certain\w*|sure|confident|qualified|able|position|use|good|bell|meaning|expertise|versed|equipped|privy)"
)
# Idioms and impersonal wordings that decline by themselves.
_DECLINES = _any(
    r"\b(?:know|knew|recall|remember|understand|have|heard|learned|learnt|possess|see) (?:absolutely |next to |precisely |simply )?(?:nothing|zilch|little|none)\b",
    r"\b(?:doesn't|does not|don't|do not|didn't) (?:ring|mean|say|tell) (?:\w+ )?(?:any bells?|a bell|anything|a thing|much)\b",
    r"\bidk\b",
    r"\bcrystal ball\b",
    r"\b(?:you'd|you would|you'll) (?:have|need) to tell me\b",
    r"\binsufficient (?:information|data|knowledge)\b",
    r"\byet to (?:learn|hear|see|read|encounter|come across)\b",
    r"\bfirst time (?:anyone|anybody|i)\b",
    r"\bmind(?:'s| is) (?:a )?blank\b",
    r"^(?:sorry |apologies |i'm afraid )*(?:can't|cannot|can not|couldn't|won't|unable to|don't|do not) (?:\w+ )?(?:help|answer|say|tell|know|comment|assist)\b",
    r"\b(?:isn't|is not|aren't|wasn't|are not) (?:a |any |in |part of |among |within |something |one |the )*(?:\w+ ){0,4}?(?:i|my|me)\b",
    r"\b(?:than|beyond what|past what) (?:i|mine|my)\b.*\b(?:have|know|knowledge|records?|data)\b|\bmore recent knowledge than\b",
    r"\b(?:nothing|nobody|none|no \w+)(?: \w+){0,4} (?:appears?|found|listed|recorded|mentioned|shown me|told me) (?:\w+ )*(?:in|by|me|my|here|what)\b",
    r"^(?:nothing|very little|next to nothing|not much|not a thing)(?:,? (?:i'm afraid|sorry|alas|at all))?$",
    r"\b(?:no|not the (?:faintest|foggiest|slightest)|haven't (?:got )?(?:a|the (?:faintest|foggiest|slightest))|without a) (?:idea|clue|notion|inkling)\b",
    r"\bhaven't (?:a clue|the (?:foggiest|faintest|slightest))\b",
    r"\b(?:the )?foggiest\b",
    r"\b(?:search|beats|stumps|escapes|eludes|defeats|baffles) me\b",
    r"\b(?:you've|you have|has|had|have|'s|got) (?:got )?me (?:stumped|beat|there|at a loss)\b",
    r"\bme stumped\b",
    r"\bstumped\b",
    r"\bdunno\b",
    r"\b(?:i'll|i'd|must|have to|i will|let me) (?:have to )?pass\b",
    r"^pass$",
    r"\bno comment\b",
    r"\byour guess is as good\b",
    r"\b(?:drawing|drew|draws?|draw) a (?:complete |total )?blank\b",
    r"\bin the dark\b",
    r"\bat a loss\b",
    r"\bover my head\b",
    r"\babove my\b",
    r"\bnew (?:one )?(?:on|to) me\b",
    r"\b(?:all )?greek to me\b",
    r"\bforeign to me\b",
    r"\bnews to me\b",
    r"\blost (?:on )?me\b",
    r"\bescapes? (?:me|my)\b",
    r"\b(?:beyond|outside|past|above|outwith)(?: of)? (?:me\b|my|what i|anything i|the (?:scope|limits?|reach|range|bounds|edge|end|point) of (?:my|what i|mine))",
    r"\b(?:falls?|lies?|goes|is|are|that's|it's|sits?) (?:well |far |simply |quite |somewhat )*(?:beyond|outside|past) (?:of )?(?:my|what|anything|the|me|our)\b",
    r"\b(?:later than|after|beyond|past) (?:the (?:period|time|point|date|years?) (?:that )?i\b|my (?:knowledge|time|training|information|records?|sources?|memory|day))",
    r"\bmy (?:\w+ ){0,3}(?:ends?|stops?|does not (?:reach|extend|go)|doesn't (?:reach|extend|go)|only (?:goes|reaches|extends))\b",
    r"\b(?:un(?:known|familiar)|foreign|a (?:mystery|stranger|blank)|strange|obscure|alien|means nothing|nothing) (?:\w+ )?to me\b",
    r"^(?:\w+[?!.,]? )?(?:(?:the|that|this) (?:term|name|word|subject|topic|matter) (?:is|'s)|(?:that|it|this)(?:'s| is)|\w+ is) (?:quite |entirely |rather |very |wholly )?"
    r"(?:unfamiliar|unknown)$",
    r"\bnot known (?:to me|here)\b",
    r"\b(?:no|not any) (?:such )?(?:information|knowledge|details?|answer|records?|data|facts|reply|response)\b"
    r"(?: \w+){0,6}? (?:available|exists?|can be (?:given|offered|provided)|to (?:give|share|offer|hand|report)|on (?:this|that|the|it|file)|about|regarding|for)\b",
    r"^(?:there (?:is|are|'s) )?(?:no|nothing) (?:\w+ )?(?:information|knowledge|details?|answer|records?|data|known|found|available|to (?:say|share|offer|tell|add|report))"
    r"(?: (?:here|of (?:that|this|it)|at all|whatsoever|available|on file))*(?:,? (?:on|about|regarding|concerning|of|for|as to) .*)?$",
    r"\b(?:is|are|was|be|information|details?|answer)[:]? (?:simply |currently |also )?(?:not available|unavailable|not accessible|not something (?:that )?(?:i|we)\b)",
    r"\b(?:can't|cannot|can not|could not|couldn't) be (?:answered|given|provided|addressed|discussed)\b",
    r"\bnot available\b",
    r"\bnothing (?:comes to mind|to (?:say|share|offer|tell|add|contribute|report))\b",
    r"\b(?:rings|means|ring|mean) (?:no bells?|nothing)\b",
    r"\bnot (?:something|a (?:subject|topic|matter|thing|name|term|word|person|title)|one|anything) (?:that |which |with which |about which )?(?:i|we)(?:'m|'ve|'d)? ",
    r"^(?:sorry |apologies |unfortunately |regrettably |sadly |nope |honestly |hmm |well |oh )*(?:don't know|do not know|not sure|can't say|cannot say|couldn't say|"
    r"couldn't tell you|can't help|cannot help|hard to say|unknown|haven't heard|never heard|unsure|not certain|no clue|no idea)\b",
    r"\b(?:a )?matter for the future\b",
    r"\bcannot see (?:into )?the future\b",
    r"\b(?:is|was|it's|that's) (?:all )?(?:in )?the future (?:to|for) me\b",
    # French, German, Spanish, since users ask in them
    r"\bje (?:ne |n')(?:\w+ )?(?:sais|connais|peux|dispose|ai|suis)\b.*\b(?:pas|rien|aucune?)\b",
    r"\bje n'ai (?:aucune|pas)\b",
    r"\baucune (?:idée|information)\b",
    r"\bne me dit rien\b",
    r"\bich (?:weiß|weiss|kenne|kann|habe)\b.*\b(?:nicht|nichts|keine?n?)\b",
    r"\b(?:keine ahnung|nichts bekannt|nicht bekannt)\b",
    r"\b(?:tut mir leid|leider)\b.*\b(?:nicht|nichts|keine?n?|noch nie)\b",
    r"\bliegen mir keine\b",
    r"\bich\b.*\bnoch nie\b",
    r"\bje ne saurais\b",
    r"\bno (?:lo )?(?:sé|conozco|tengo (?:información|ni idea|conocimiento|datos))\b",
    r"\bno puedo (?:responder|ayudar|decir)\b",
    r"\bno me (?:suena|consta)\b",
)
_FIRST_PERSON = re.compile(
    rf"\b{_ME}\b|\bim\b|\bive\b|^(?:\W|sorry|hmm|well)*(?:don't|do not|can't|cannot|never)\b"
)
_NEGATED_SAYING = re.compile(
    rf"(?:\b|(?<=n't)){_NOT}\b(?:\W+\w+){{0,7}}?\W+{_SAYING}\b|n't(?:\W+\w+){{0,5}}?\W+{_SAYING}\b|\b(?:unable|not able|impossible) (?:for me )?to\b"
)
_NEGATED_HAVING = re.compile(rf"(?:\b{_NOT}\b|n't)(?:\W+\w+){{0,6}}?\W+{_HAVING}\b")
_ABSENT = re.compile(
    rf"\b{_HAVING}\b(?:\W+\w+){{0,5}}?\W+(?:(?:do|does|did|is|are|was|were|has|have|can)(?: not|n't)|not|never|nothing|no|lacks?|missing|silent|absent|ends?|stops?)\b"
)
_UNSURE = re.compile(
    r"\b(?:un(?:sure|certain|aware|familiar|informed|acquainted|able)|ignorant|clueless|not (?:sure|certain|aware|familiar))\b"
)
# Belief is an answer, even a shy one.
_BELIEVES = re.compile(
    r"\b(?:i|we)(?:'d| would| do)? (?:also |still |just |only )?(?:think|believe|guess|suppose|reckon|suspect|imagine|assume)\b(?! not| (?:i|we) (?:can|could|don|do not|am|'m))|"
    r"\bif i (?:remember|recall) (?:right|correctly)|\bit (?:may|might) have been\b|\bprobably\b|\bmy (?:best )?guess\b|\bi seem to\b"
)
_COURTESY = _any(
    r"\b(?:sorry|apolog\w*|pardon|forgive|regret\w*|excuse|afraid|alas|unfortunately|regrettably|sadly)\b",
    r"\b(?:please|thank\w*|welcome|glad\w*|happy|happily|pleasure|delighted|hope|feel free|let me know|good luck|cheers|best wishes|kind(?:ly| regards))\b",
    r"\b(?:ask|try|consult|check|see|visit|contact|look|search|refer|suggest|recommend|speak|talk|write|call)\b",
    r"\b(?:if|perhaps|maybe|might|may|could|would|should|shall|wanna|want)\b",
    r"\b(?:you|your|yours)\b",
    r"^(?:hm+|well|oh|ha|ah|gosh|yikes|wow|ok|okay|hello|hi|no|nope|honestly|answer|note)\b",
)
_PERIOD_SELF = _any(
    rf"\b{_ME}\b.*\b(?:future|summer of|1969|cutoff|cut-off|time|period|era|day|today|present|year)\b",
    r"\b(?:still|only|now|currently|is) (?:\w+ )?july 1969\b",
    r"\bas (?:of|an?) (?:my|ai|an ai|a language|july|the summer)\b",
    r"\bi(?:'m| am) (?:just |only )?(?:an? )?(?:ai|language model|assistant|chatbot|program)\b",
)
_OFFER = re.compile(
    r"\b(?:ask me|instead|happy to|glad to|keep asking|consult|wanna|i(?:'d| would| can| could) (?:be |gladly |happily )?(?:tell|talk|speak|help|discuss))\b|\?$"
)
_ON_WHAT_WAS_ASKED = re.compile(
    r"^(?:as for|as to|but as for|how|who|what|when|where|which|why)\b|\b(?:tell|say|give|know|aware|know nothing)\b.*\b(?:when|who|"
    r"what|how|where|whether|of any|of what|winner|later|after|since|that|more)\b|\bhave nothing\b"
)
