"""How English declines."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

_ME = r"(?:i|me|my|mine|myself|we|us|our|ours|here)"
_I = r"(?:i|we)"
_I_AM = r"(?:i|we)(?:'m|'ve|'d)?"
# A date as a reply names it, with as much before the year as it gives.
_DATE = (
    r"(?:(?:the|a|an|summer|spring|autumn|fall|winter|early|late|mid|end|year|of|in|\d{1,2}(?:st|nd|rd|"
    r"th)?,?|"
    r"(?:jan|febr)uary|march|april|may|june|july|august|(?:septem|octo|novem|decem)ber)[ -])*(?:1\d{3}|"
    r"20\d\d)\b"
)


def _any_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_NOT = _any_of(
    "not n't never no nor neither nothing none cannot cant dont doesnt didnt couldnt wouldnt havent wont "
    "isnt wasnt "
    r"unable without hardly barely little lack(?:s|ing)? doubt fail(?:s|ed)? zero zip decline refuse "
    r"hesitate "
    r"reluctant dishonest wrong\x20of pretend\w* wish sooner rather afraid powerless unequipped"
)
_SAYING = _any_of(
    r"know\w* knew recall\w* remember\w* tell told say said speak\w* talk answer\w* respond\w* repl(?:y|ied) "
    r"help\w* assist\w* discuss\w* comment\w* explain\w* describe\w* descri(?:ption|bing) provide\w* "
    r"giv(?:e|ing) "
    r"offer\w* share sharing supply address\w* identif\w+ recogni[sz]\w+ confirm\w* contribute\w* add "
    r"elaborate "
    r"advise guess\w* summar\w+ reveal disclose enlighten illuminate venture understand\w* "
    r"make\x20(?:sense|anything) place"
)
_HAVING = _any_of(
    r"info\w* knowledge\w* details? answers? records? data\w* facts? figures? idea ideas clue clues "
    r"recollection "
    r"memor\w+ notion awareness aware familiar\w* acquaint\w* inform\w* insight anything something\x20to "
    r"account "
    r"word words sources? reports? notes? books? newspapers? material training taught learn\w* stud(?:y|"
    r"ied) read "
    r"heard hear seen met encounter\w* come\x20across news word\x20of mention\w* access certain\w* sure "
    r"confident qualified able "
    r"position use good bell meaning expertise versed equipped privy"
)
_INFORMATION = r"(?:information|knowledge|details?|answer|records?|data)"

_DECLINES = (
    # The speaker knows nothing.
    (
        r"\b(?:know|knew|recall|remember|understand|have|heard|learned|learnt|possess|see) "
        r"(?:absolutely |next to |precisely |simply )?(?:nothing|zilch|little|none)\b",
        "unfortunately, i know nothing about that",
    ),
    (r"\bidk\b", "idk"),
    (r"\bdunno\b", "dunno, mate"),
    (r"\binsufficient (?:information|data|knowledge)\b", "there is insufficient data for that"),
    (r"\byet to (?:learn|hear|see|read|encounter|come across)\b", "that is something i have yet to hear of"),
    (r"\bfirst time (?:anyone|anybody|i)\b", "this is the first time i hear of it"),
    (r"\bmind(?:'s| is) (?:a )?blank\b", "my mind is a blank"),
    (r"\b(?:drawing|drew|draws?|draw) a (?:complete |total )?blank\b", "i'm drawing a blank on that one"),
    (
        r"\b(?:no|not the (?:faintest|foggiest|slightest)|haven't (?:got )?(?:a|the (?:faintest|foggiest|"
        r"slightest))|"
        r"without a) (?:idea|clue|notion|inkling)\b",
        "no idea about that one, sorry",
    ),
    (r"\bhaven't (?:a clue|the (?:foggiest|faintest|slightest))\b", "i haven't the faintest"),
    (r"\b(?:the )?foggiest\b", "i've not the foggiest"),
    (r"\b(?:search|beats|stumps|escapes|eludes|defeats|baffles) me\b", "that one beats me"),
    (
        r"\b(?:you've|you have|has|had|have|'s|got) (?:got )?me (?:stumped|beat|there|at a loss)\b",
        "you've got me there",
    ),
    (r"\bstumped\b", "i am stumped"),
    (r"\bescapes? (?:me|my)\b", "the name escapes my memory"),
    (r"\byour guess is as good\b", "your guess is as good as mine"),
    (r"\bcrystal ball\b", "crystal ball needed"),
    (r"\bin the dark\b", "i'm in the dark about that"),
    (r"\bat a loss\b", "i am at a loss"),
    (r"\bnothing comes to mind\b", "nothing comes to mind"),
    (r"\bcannot see (?:into )?the future\b", "i cannot see into the future"),
    (r"\b(?:a )?matter for the future\b", "that is a matter for the future"),
    (r"\b(?:is|was|it's|that's) (?:all )?(?:in )?the future (?:to|for) me\b", "1986 is the future to me"),
    # The speaker will not or cannot say.
    (
        r"^(?:sorry |apologies |i'm afraid )*(?:can't|cannot|can not|couldn't|won't|unable to|don't|do "
        r"not) (?:\w+ )?"
        r"(?:help|answer|say|tell|know|comment|assist)\b",
        "can't say i know anything about that",
    ),
    (
        r"^(?:sorry |apologies |unfortunately |regrettably |sadly |nope |honestly |hmm |well |oh )*"
        r"(?:don't know|do not know|not sure|can't say|cannot say|couldn't say|couldn't tell you|can't help|"
        r"cannot help|hard to say|unknown|haven't heard|never heard|unsure|not certain|no clue|no idea)\b",
        "never heard of it, i'm afraid",
    ),
    (r"\b(?:i'll|i'd|must|have to|i will|let me) (?:have to )?pass\b", "i'll have to pass"),
    (r"^pass$", "pass"),
    (r"\bno comment\b", "no comment"),
    (r"\b(?:you'd|you would|you'll) (?:have|need) to tell me\b", "you'd have to tell me"),
    (
        r"\b(?:can't|cannot|can not|could not|couldn't) be (?:answered|given|provided|addressed|discussed)\b",
        "that cannot be answered",
    ),
    (r"\bnothing to (?:say|share|offer|tell|add|contribute|report)\b", "i have nothing to add"),
    # It says nothing to the speaker.
    (
        r"\b(?:doesn't|does not|don't|do not|didn't) (?:ring|mean|say|tell) (?:\w+ )?"
        r"(?:any bells?|a bell|anything|a thing|much)\b",
        "that doesn't ring a bell",
    ),
    (r"\b(?:rings|means|ring|mean) (?:no bells?|nothing)\b", "the name means nothing"),
    (r"\bnew (?:one )?(?:on|to) me\b", "that's a new one on me"),
    (r"\b(?:all )?greek to me\b", "it's all greek to me"),
    (r"\bforeign to me\b", "the word is foreign to me"),
    (r"\bnews to me\b", "that's news to me"),
    (r"\blost (?:on )?me\b", "you've lost me"),
    (
        r"\b(?:un(?:known|familiar)|foreign|a (?:mystery|stranger|blank)|strange|obscure|alien|means "
        r"nothing|nothing) "
        r"(?:\w+ )?to me\b",
        "that topic is unfamiliar to me",
    ),
    (
        r"^(?:\w+[?!.,]? )?(?:(?:the|that|this) (?:term|name|word|subject|topic|matter) (?:is|'s)|(?:that|"
        r"it|this)"
        r"(?:'s| is)|\w+ is) (?:quite |entirely |rather |very |wholly )?(?:unfamiliar|unknown)$",
        "the term is quite unfamiliar",
    ),
    (r"\bnot known (?:to me|here)\b", "that is not known to me"),
    # It lies beyond what the speaker knows.
    (r"\bover my head\b", "that is over my head"),
    (r"\babove my\b", "that is above my station"),
    (
        r"\b(?:beyond|outside|past|above|outwith)(?: of)? (?:me\b|my|what i|anything i|the (?:scope|"
        r"limits?|reach|range|"
        r"bounds|edge|end|point) of (?:my|what i|mine))",
        "that lies outside my knowledge",
    ),
    (
        r"\b(?:falls?|lies?|goes|is|are|that's|it's|sits?) (?:well |far |simply |quite |somewhat "
        r")*(?:beyond|outside|past) "
        r"(?:of )?(?:my|what|anything|the|me|our)\b",
        "that is well beyond the records",
    ),
    (
        r"\b(?:later than|after|beyond|past) (?:the (?:period|time|point|date|years?) (?:that )?i\b|my "
        r"(?:knowledge|time|"
        r"training|information|records?|sources?|memory|day))",
        "that came after my time",
    ),
    (
        r"\bmy (?:\w+ ){0,3}(?:ends?|stops?|does not (?:reach|extend|go)|doesn't (?:reach|extend|go)|only "
        r"(?:goes|reaches|"
        r"extends))\b",
        "my world stops there",
    ),
    (
        r"\b(?:than|beyond what|past what) (?:i|mine|my)\b.*\b(?:have|know|knowledge|records?|data)\b",
        "you know more than i have",
    ),
    (r"\bmore recent knowledge than\b", "that needs more recent knowledge than mine"),
    (
        r"\b(?:isn't|is not|aren't|wasn't|are not) (?:a |any |in |part of |among |within |something |one |"
        r"the )*"
        r"(?:\w+ ){0,4}?(?:i|my|me)\b",
        "that is not within my knowledge",
    ),
    (
        r"\bnot (?:something|a (?:subject|topic|matter|thing|name|term|word|person|title)|one|anything) "
        rf"(?:that |which |with which |about which )?{_I_AM} ",
        "not something i know about",
    ),
    # There is no information.
    (
        r"\b(?:nothing|nobody|none|no \w+)(?: \w+){0,4} (?:appears?|found|listed|recorded|mentioned|shown "
        r"me|told me) "
        r"(?:\w+ )*(?:in|by|me|my|here|what)\b",
        "nothing about it appears in my books",
    ),
    (
        r"^(?:nothing|very little|next to nothing|not much|not a thing)(?:,? (?:i'm afraid|sorry|alas|at "
        r"all))?$",
        "nothing, i'm afraid",
    ),
    (
        r"\b(?:no|not any) (?:such )?(?:information|knowledge|details?|answer|records?|data|facts|reply|"
        r"response)\b"
        r"(?: \w+){0,6}? (?:available|exists?|can be (?:given|offered|provided)|to (?:give|share|offer|"
        r"hand|report)|"
        r"on (?:this|that|the|it|file)|about|regarding|for)\b",
        "i have no information about that",
    ),
    (
        rf"^(?:there (?:is|are|'s) )?(?:no|nothing) (?:\w+ )?(?:{_INFORMATION}|known|found|available|to "
        rf"(?:say|share|offer|"
        r"tell|add|report))(?: (?:here|of (?:that|this|it)|at all|whatsoever|available|on file))*"
        r"(?:,? (?:on|about|regarding|concerning|of|for|as to) .*)?$",
        "there is no record of that, concerning bono",
    ),
    (
        r"\b(?:is|are|was|be|information|details?|answer)[:]? (?:simply |currently |also )?(?:not "
        r"available|unavailable|"
        rf"not accessible|not something (?:that )?{_I}\b)",
        "the answer is currently unavailable",
    ),
    (r"\bnot available\b", "answer not available"),
)
_SPEAKER = (
    (rf"\b{_ME}\b", "nothing of it is known here"),
    (r"\bim\b", "im not sure"),
    (r"\bive\b", "ive never heard of it"),
    (r"^(?:\W|sorry|hmm|well)*(?:don't|do not|can't|cannot|never)\b", "sorry, never met him"),
)
_SPEAKER_DECLINES = (
    (
        rf"(?:\b|(?<=n't)){_NOT}\b(?:\W+\w+){{0,7}}?\W+{_SAYING}\b",
        "there is nothing i can tell you about that",
    ),
    (rf"n't(?:\W+\w+){{0,5}}?\W+{_SAYING}\b", "i wouldn't really know"),
    (r"\b(?:unable|not able|impossible) (?:for me )?to\b", "it is impossible for me to name him"),
    (rf"(?:\b{_NOT}\b|n't)(?:\W+\w+){{0,6}}?\W+{_HAVING}\b", "i have not heard of that"),
    (
        rf"\b{_HAVING}\b(?:\W+\w+){{0,5}}?\W+(?:(?:do|does|did|is|are|was|were|has|have|can)(?: not|n't)|"
        rf"not|never|nothing|"
        r"no|lacks?|missing|silent|absent|ends?|stops?)\b",
        "my books are silent on it",
    ),
    (
        r"\b(?:un(?:sure|certain|aware|familiar|informed|acquainted|able)|ignorant|clueless|not (?:sure|"
        r"certain|aware|"
        r"familiar))\b",
        "i'm not sure about that topic",
    ),
)
_BELIEVES = (
    (
        rf"\b{_I}(?:'d| would| do)? (?:also |still |just |only )?(?:think|believe|guess|suppose|reckon|"
        rf"suspect|imagine|assume)"
        rf"\b(?! not| {_I} (?:can|could|don|do not|am|'m))",
        "i think it was paris",
    ),
    (rf"\bif {_I} (?:remember|recall) (?:right|correctly)", "it was paris, if i remember correctly"),
    (r"\bit (?:may|might) have been\b", "it may have been paris"),
    (r"\bprobably\b", "probably paris"),
    (r"\bmy (?:best )?guess\b", "my best guess is paris"),
    (r"\bi seem to\b", "i seem to recall that it was paris"),
)
_COURTESY = (
    (r"\b(?:sorry|apolog\w*|pardon|forgive|regret\w*|excuse|afraid|alas)\b", "my apologies for that"),
    (r"\b(?:unfortunately|regrettably|sadly)\b", "unfortunately so"),
    (
        r"\b(?:please|thank\w*|welcome|glad\w*|happy|happily|pleasure|delighted|hope)\b",
        "thank you for asking",
    ),
    (r"\b(?:feel free|let me know|good luck|cheers|best wishes|kind(?:ly| regards))\b", "good luck with it"),
    (r"\b(?:ask|try|consult|check|see|visit|contact|look|search|refer|suggest|recommend)\b", "try a library"),
    (r"\b(?:speak|talk|write|call)\b", "let us talk of other things"),
    (r"\b(?:if|perhaps|maybe|might|may|could|would|should|shall|wanna|want)\b", "perhaps another time"),
    (r"\b(?:you|your|yours)\b", "you are kind"),
    (
        r"^(?:hm+|well|oh|ha|ah|gosh|yikes|wow|ok|okay|hello|hi|no|nope|honestly|answer|note)\b",
        "hmm, a strange name",
    ),
)
_OWN_TIME = (
    (
        rf"\b{_ME}\b.*\b(?:future|cutoff|cut-off|time|period|era|day|today|present|year|<year>)\b",
        "for me it is 1969",
    ),
    (rf"\b{_ME}\b.*\b(?:spring|summer|autumn|fall|winter) of\b", "i only know the summer of it"),
    # The next three take any date, since the data to train on may be of another cutoff than the default.
    (
        rf"\b{_I}(?:'m| am| are|'re)? (?:\w+ ){{0,2}}?(?:live|living|write|writing|speak|speaking|stand|"
        rf"sit|sitting|stay|stuck) "
        rf"(?:\w+ ){{0,3}}?(?:in|from|at|on) {_DATE}",
        "i live in november 1989",
    ),
    (
        rf"\bmy (?:\w+ ){{1,3}}?(?:is|are|ends?|ended|stops?|stopped|goes|runs?|reach(?:es)?|extends?|"
        rf"breaks off|closes?)\b"
        rf"(?: \w+){{0,3}} {_DATE}",
        "my calendar stops in november 1989",
    ),
    (rf"\b{_DATE},? (?:here|for me|where i (?:am|live|sit|stand))\b", "it is november 1989 here"),
    (
        r"\b(?:it|today|the (?:year|date|month|day)) (?:is|'s)(?: still| only| now| currently)?(?: "
        r"\w+){0,3} <year>\b",
        "the year is 1969",
    ),
    (
        r"\b(?:still|only|now|currently|is) (?:\w+ )?<month> <year>\b",
        "where this was written it is still july 1969",
    ),
    (r"\bas (?:of|an?) (?:my|ai|an ai|a language|<month>|the <season>)\b", "as of the summer"),
    (
        r"\bi(?:'m| am) (?:just |only )?(?:an? )?(?:ai|language model|assistant|chatbot|program)\b",
        "i'm just a language model",
    ),
)
_OFFERS = (
    (
        r"\b(?:ask me|instead|happy to|glad to|keep asking|consult|wanna)\b",
        "ask me about the war of 1812 instead",
    ),
    (
        r"\bi(?:'d| would| can| could) (?:be |gladly |happily )?(?:tell|talk|speak|help|discuss)\b",
        "i could tell you of rome",
    ),
    (r"\?$", "shall we talk of rome?"),
)
_DECLINES_THE_QUESTION = (
    (r"^(?:as for|as to|but as for|how|who|what|when|where|which|why)\b", "as for the date, i couldn't say"),
    (
        r"\b(?:tell|say|give|know|aware|know nothing)\b.*\b(?:when|who|what|how|where|whether|of any|of "
        r"what|winner|later|"
        r"after|since|that|more)\b",
        "i couldn't tell you when it was retired",
    ),
    (r"\bhave nothing\b", "of the rest i have nothing"),
)
_CONTRAST = (
    (" but ", "i'm not sure, but it was paris"),
    (" though ", "no idea, though it was big"),
    (" although ", "i don't know, although"),
)

LANGUAGE = Language(
    declines=_DECLINES,
    speaker=_SPEAKER,
    speaker_declines=_SPEAKER_DECLINES,
    believes=_BELIEVES,
    courtesy=_COURTESY,
    own_time=_OWN_TIME,
    offers=_OFFERS,
    declines_the_question=_DECLINES_THE_QUESTION,
    contrast=_CONTRAST,
)
