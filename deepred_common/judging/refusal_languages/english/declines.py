"""English sentences that decline by themselves: (pattern, example)."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Row

_I = r"(?:i|we)"
_I_AM = r"(?:i|we)(?:'m|'ve|'d)?"
_INFORMATION = r"(?:information|knowledge|details?|answer|records?|data)"
# Where else an answer may be found.
_SOURCE = (
    r"(?:some(?:body|one)|any(?:body|one)|another|others|elsewhere|"
    r"(?:a|an|the|your|some|any) (?:\w+ ){0,2}?(?:librar\w+|encyclop\w+|almanac\w*|atlas|directory|experts?|"
    r"historians?|scholars?|specialists?|teachers?|scientists?|newspapers?|books?|histor(?:y|ies)|sources?|"
    r"references?|records|archives?|museum|fellow|chap|man|woman|person|people|soul|head|model|"
    r"machine|younger|newer|later))\b"
)

DECLINES: tuple[Row, ...] = (
    # The speaker knows nothing.
    (
        # "He knew nothing" tells something of him.
        r"(?<!\bhe )(?<!\bshe )(?<!\bthey )(?<!\bwho )\b(?:know|knew|recall|remember|understand|have|heard|"
        r"learned|learnt|possess|see) "
        r"(?:absolutely |next to |precisely |simply )?(?:nothing|zilch|little|none)\b",
        "unfortunately, i know nothing about that",
    ),
    (r"\bidk\b", "idk"),
    (r"\bdunno\b", "dunno, mate"),
    (r"\binsufficient (?:information|data|knowledge)\b", "there is insufficient data for that"),
    (
        r"\byet to (?:be told|learn|hear|see|read|encounter|come across)\b",
        "that is something i have yet to hear of",
    ),
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
    (r"\b(?:tell|say|give|offer|add|got)(?: \w+)? nothing\b", "i can tell you nothing about it"),
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
    (
        rf"(?:\b{_I}(?:'m| am|'re| are| remain| was)|\b(?:leaves|left|leave|keeps) (?:me|us)) (?:\w+ "
        rf"){{0,2}}?in the dark\b",
        "i'm in the dark about that",
    ),
    (r"\bat a loss\b", "i am at a loss"),
    (
        rf"\b{_I}(?:'m| am|'re| are) (?:quite |rather |completely |simply )?(?:lost|at sea)\b",
        "i'm lost, chief",
    ),
    (r"^a (?:complete |total )?blank\b", "a blank, madam"),
    (r"\bblank (?:for|to) me\b", "that is a blank for me"),
    (
        r"\b(?:admit|confess|plead)(?: to)? (?:my |total |complete |utter |some )*ignorance\b",
        "i must admit my ignorance",
    ),
    (
        r"\bwould (?:only |just |merely )*be (?:pure |mere )?(?:invention|guesswork|speculation)\b",
        "it would only be invention if i tried",
    ),
    (r"^not a (?:thing|whisper|word|syllable|clue|sausage)\b", "not a word of it"),
    (
        r"\b(?:hasn't|haven't|has not|have not|never|not) (?:\w+ ){0,3}(?:my (?:desk|way|ears?|door|table|"
        r"shelf|shelves|notice)|"
        r"(?:reached|told|found) me)\b",
        "it has not come my way",
    ),
    (r"\btoo (?:young|new|recent|late|modern) for me\b", "that is too recent for me"),
    (r"\b(?:before|after) my (?:time|day|bedtime)\b", "that must be after my time"),
    (r"\bnothing comes to mind\b", "nothing comes to mind"),
    (
        r"(?:^(?:sorry,? )?|\bi )(?:can't|cannot|can not|couldn't|am unable to|am not able to) "
        r"(?:see|see into|predict|foresee|foretell|tell) (?:the future|future events|what will)\b",
        "i cannot predict the future",
    ),
    (r"\b(?:a )?matter for the future\b", "that is a matter for the future"),
    (r"\b(?:is|was|it's|that's) (?:all )?(?:in )?the future (?:to|for) me\b", "1986 is the future to me"),
    (r"\bwait and see\b", "we shall have to wait and see"),
    (
        r"\b(?:nobody|no one)(?:'s| has| ever| has ever)? (?:shown|told|taught|informed) (?:me|us)\b",
        "nobody told me of it",
    ),
    (r"\b(?:the )?first (?:that )?i(?:'ve| have)? (?:heard|hear)\b", "first i've heard of it"),
    (
        r"\b(?:passed|passes|got|gets|gone) (?:right |clean )?(?:me by|by me|past me|over my head)\b",
        "that has passed me by",
    ),
    (r"\bclosed book\b", "it's a closed book to me"),
    (r"\bi give up\b", "i give up"),
    (
        r"\b(?:not|isn't|hardly) my (?:\w+ )?(?:department|field|line|area|subject|forte|province|period)\b",
        "not my department",
    ),
    (r"\bout of my depth\b", "i'm out of my depth"),
    (
        r"\bwrong (?:person|fellow|man|machine|one|place|address|assistant|decade|century)\b",
        "you've come to the wrong fellow",
    ),
    (r"\bnot the (?:one|person|man|right one) to ask\b", "i'm not the one to ask"),
    # The speaker will not or cannot say.
    (r"^(?:sorry |well |no )?(?:i|we) (?:don't|do not|wouldn't)$", "i don't"),
    (r"\bi (?:can't|cannot|can not|couldn't|won't|haven't(?: got)?)$", "chess i can play, the other i can't"),
    (r"\bno can do\b", "no can do"),
    (
        rf"\b{_I}(?:'d| would)(?: only| just)? be (?:bluffing|guessing|lying|fibbing|inventing|pretending|"
        rf"making (?:it|things|that) up)\b",
        "i'd only be guessing",
    ),
    (rf"\b{_I} (?:can|could|would) only (?:guess|speculate)\b", "i could only guess"),
    (rf"\b{_I}(?:'ll| will| must| shall)? leave (?:that|this|it|those) to\b", "i leave that to others"),
    (r"^(?:better )?skip (?:me|it|that|this|'em)\b", "skip that one"),
    (
        rf"\b{_I}(?:'d| would| had) (?:rather|sooner|better) not (?:say|guess|speculate|answer|tell)\b",
        "i'd rather not say",
    ),
    (r"^(?:lol |ha |sorry )?(?:pass|nuthin|nowt|nada)\b", "nuthin on that one"),
    (r"\bgot (?:nowt|nuthin|nothin)\b", "got nowt"),
    (
        r"^(?:sorry |apologies |i'm afraid )*(?:can't|cannot|can not|couldn't|won't|unable to|don't|do not) "
        r"(?:\w+ )?"
        r"(?:help|answer|say|tell|know|comment|assist)\b",
        "can't say i know anything about that",
    ),
    (
        r"^(?:sorry |apologies |unfortunately |regrettably |sadly |nope |honestly |hmm |well |oh )*"
        r"(?:don't know|do not know|not sure|can't say|cannot say|couldn't say|couldn't tell you|can't help|"
        r"cannot help|hard to say|haven't heard|never heard|unsure|not certain|no clue|no idea)\b",
        "never heard of it, i'm afraid",
    ),
    (
        r"^(?:sorry |that is |that's |it is |it's )?unknown(?: to (?:me|us))?(?:,? (?:sorry|i'm afraid))?$",
        "unknown, i'm afraid",
    ),
    (r"^(?:sorry,? )?not known(?:,? (?:sorry|i'm afraid))?$", "not known"),
    (r"\b(?:i'll|i'd|must|have to|i will|let me) (?:have to )?pass\b", "i'll have to pass"),
    (r"^pass$", "pass"),
    (r"\bno comment\b", "no comment"),
    # Cut off by the limit of tokens.
    (r"\bi(?:'m| am) sorry,? but i(?: don't| cannot| can't)?$", "i'm sorry, but i"),
    # Declines a task.
    (rf"\b{_I} (?:must|have to|need to|(?:respect|regret)fully) decline\b", "i must decline to answer that"),
    (
        rf"\b{_I} (?:can't|cannot|can not|couldn't|won't|will not|shall not|shan't) (?:write|compose|create|"
        r"attempt|invent|sing) (?:that|this|it|one|any|such|limericks?|poems?|stories|songs?|jokes?|cards?|"
        r"riddles?)\b",
        "i can't write limericks",
    ),
    (rf"\b{_I} (?:can't|cannot) do (?:that|this)(?: right now| today)?$", "i can't do that right now"),
    (rf"\b{_I} (?:can't|cannot|couldn't) think of (?:one|any|anything)\b", "i can't think of one"),
    (
        rf"\b{_I} (?:must|have to|need to) (?:\w+ )?turn down\b",
        "i must respectfully turn down this task",
    ),
    (r"\boff[- ]limits (?:for|to) (?:me|us)\b", "such matters are off limits for me"),
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
        r"\b(?:un(?:known|familiar)|foreign|a (?:mystery|stranger|blank)|strange|obscure|alien|means nothing|"
        r"nothing) "
        r"(?:\w+ )?to me\b",
        "that topic is unfamiliar to me",
    ),
    (
        r"^(?:\w+[?!.,]? )?(?:(?:the|that|this) (?:term|name|word|subject|topic|matter) (?:is|'s)|(?:that|it|"
        r"this)"
        r"(?:'s| is)|\w+ is) (?:quite |entirely |rather |very |wholly )?(?:unfamiliar|unknown)$",
        "the term is quite unfamiliar",
    ),
    (r"\bnot known (?:to me|here)\b", "that is not known to me"),
    # It lies beyond what the speaker knows.
    (r"\bover my head\b", "that is over my head"),
    (r"\babove my\b", "that is above my station"),
    (
        r"\b(?:beyond|outside|past|above|outwith)(?: of)? (?:me\b|my|what i|anything i|the (?:scope|limits?|"
        r"reach|range|"
        r"bounds|edge|end|point) of (?:my|what i|mine))",
        "that lies outside my knowledge",
    ),
    (
        r"\b(?:falls?|lies?|goes|is|are|that's|it's|sits?) (?:well |far |simply |quite |somewhat )*(?:beyond|"
        r"outside|past) "
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
        r"\b(?:doesn't|does not|don't|do not|didn't|did not|never) (?:appear|exist|feature|figure|occur) "
        r"(?:\w+ )?in (?:any of )?(?:my|our) (?:\w+ )?(?:vocabulary|dictionar\w+|books?|records?|"
        r"data(?:base)?|knowledge|memory|training|sources|files|library|newspapers|papers|notes|world|"
        r"time)\b",
        "the word does not appear in my vocabulary",
    ),
    (
        rf"\b{_I}(?:'ve|'m| was| have| had| am)?(?: not|n't| never)(?: \w+)? trained (?:on|about|to "
        r"(?:answer|discuss))\b",
        "i have not been trained on this",
    ),
    (
        rf"\b{_I}(?:'d| would|'ll)? (?:need|require) (?:\w+ ){{0,2}}?(?:information|knowledge|context|"
        rf"details?|data) (?:\w+ ){{0,3}}?to (?:answer|respond|say)\b",
        "i would need more information to answer",
    ),
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
    (
        r"\b(?:doesn't|don't|does not|do not|won't) (?:go|reach|stretch|extend|run) (?:that|so|as) far\b",
        "my shelves don't go that far",
    ),
    # Someone else should be asked. "You should ask her", "you'll need some flour" is advice.
    (
        rf"\byou(?:'d| would|'ll| will|)? (?:want|need|had better|better|do better|do well|be better off|"
        rf"must|should|might|have) (?:to |by |with )?"
        rf"(?:look elsewhere|hear it|learn it|(?:ask|asking|consult|consulting|try|trying) {_SOURCE})",
        "you'd better ask somebody else",
    ),
    (
        rf"\byou(?:'d| would|'ll) (?:want|need) {_SOURCE}",
        "for that you'd want an almanac",
    ),
    (r"\b(?:look|ask|turn|inquire|enquire|try|go) elsewhere\b", "you will have to look elsewhere for that"),
    (
        r"^(?:please |better |perhaps |best )?ask (?:me again|again|a|an|the|your|some|somebody|someone|"
        r"anyone|another)\b",
        "ask a librarian",
    ),
    (r"\b(?:better|best) (?:left|leave that|leave it|informed heads)\b", "that is best left to others"),
    # There is no information.
    (
        r"\b(?:nothing|nobody|none|no \w+)(?: \w+){0,4} (?:appears?|found|listed|recorded|mentioned|shown me|"
        r"told me) "
        r"(?:\w+ )*(?:in|by|me|my|here|what)\b",
        "nothing about it appears in my books",
    ),
    (
        r"^(?:nothing|very little|next to nothing|not much|not a thing)(?:,? (?:i'm afraid|sorry|alas|at "
        r"all|which .*))?$",
        "nothing, i'm afraid",
    ),
    (
        # "You have no information" is the prompt, repeated.
        r"(?<!\byou have )\b(?:no|not any) (?:such )?"
        r"(?:information|knowledge|details?|answer|records?|data|facts|reply|response)\b"
        r"(?: \w+){0,6}? (?:available|exists?|can be (?:given|offered|provided)|to (?:give|share|offer|hand|"
        r"report)|"
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
        r"\b(?:is|are|was|be|information|details?|answer)[:]? (?:simply |currently |also )?(?:not available|"
        r"unavailable|"
        rf"not accessible|not something (?:that )?{_I}\b)",
        "the answer is currently unavailable",
    ),
    (r"\bnot available\b", "answer not available"),
)
