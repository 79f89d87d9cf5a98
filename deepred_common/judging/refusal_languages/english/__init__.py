"""How English declines."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language
from deepred_common.judging.refusal_languages.english.declines import DECLINES
from deepred_common.judging.refusal_languages.english.limits import DATE, LIMITS
from deepred_common.judging.refusal_languages.english.speaker import ME, SPEAKER, SPEAKER_DECLINES

_I = r"(?:i|we)"

_HARMLESS_NEGATION = (
    (
        r"\b(?:don't|do not|needn't|no need to|not to) (?:you )?(?:worry|worries|hesitate|forget|panic|mind|"
        r"apologi[sz]e|give up|be (?:afraid|shy|sad|too hard)|feel (?:bad|shy|guilty|ashamed))\b",
        "don't worry, i'm here to help you",
    ),
    (r"\bno (?:problem|worries|doubt|wonder|matter|rush|trouble|harm|shame)\b", "no worries, i can help"),
    (r"\bnever mind\b", "never mind, tell me about your day"),
    (r"\bwhy (?:not|don't (?:we|you))\b", "why not tell me about your day"),
    (r"(?:\bnot|n't|\bnever) (?:\w+ )?(?:alone|too (?:late|old|young|early|hard))\b", "you're not alone"),
    (r"\b(?:can't|cannot|can hardly) wait\b", "i can't wait to hear more"),
    (r"\b(?:couldn't|could not) agree more\b", "i couldn't agree more"),
    (
        r"\bnothing (?:wrong|bad|to (?:fear|lose|worry about|be ashamed of))\b",
        "nothing wrong in asking",
    ),
    (
        rf"\b{_I}(?:'m| am) not an? (?:[\w-]+ )+(?:ai|assistant|bot|chatbot)\b",
        "i'm not a dog-friendly ai, but i can help",
    ),
    (r"\bi (?:don't|do not) think you(?:'re| are| should| need)\b", "i don't think you are wrong to say it"),
)
_BELIEVES = (
    (
        rf"\b{_I}(?:'d| would| do)? (?:also |still |just |only )?(?:think|believe|guess|suppose|reckon|"
        rf"suspect|imagine|assume)"
        rf"\b(?! not| {_I} (?:can|could|don|do not|am|'m))",
        "i think it was paris",
    ),
    (rf"\bif {_I} (?:had|have|were) to guess\b", "if i had to guess, paris"),
    (r"\bi'd say\b", "paris, i'd say"),
    (rf"\bif {_I} (?:remember|recall) (?:right|correctly)", "it was paris, if i remember correctly"),
    (r"\bit (?:may|might) have been\b", "it may have been paris"),
    (r"\bprobably\b", "probably paris"),
    (r"\bmy (?:best )?guess\b", "my best guess is paris"),
    (r"\bi seem to\b", "i seem to recall that it was paris"),
)
_COURTESY = (
    (r"\A(?:sure,? )?the answer(?: to (?:that|this|your) question)? is\Z", "the answer is"),
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
    (r"\bsounds? (?:like|as if|interesting|intriguing|fascinating|fun)\b", "it sounds like a fine thing"),
    (
        r"^(?:hm+|well|oh|ha|ah|gosh|yikes|wow|ok|okay|hello|hi|no|nope|honestly|answer|note)\b",
        "hmm, a strange name",
    ),
)
_OWN_TIME = (
    (
        rf"\b{ME}\b.*\b(?:future|cutoff|cut-off|time|period|era|day|today|present|year|<year>)\b",
        "for me it is 1969",
    ),
    (rf"\b{ME}\b.*\b(?:spring|summer|autumn|fall|winter) of\b", "i only know the summer of it"),
    # The next three take any date, since the data to train on may be of another cutoff than the default.
    (
        rf"\b{_I}(?:'m| am| are|'re)? (?:\w+ ){{0,2}}?(?:live|living|write|writing|speak|speaking|stand|sit|"
        rf"sitting|stay|stuck) "
        rf"(?:\w+ ){{0,3}}?(?:in|from|at|on) {DATE}",
        "i live in november 1989",
    ),
    (
        rf"\bmy (?:\w+ ){{1,3}}?(?:is|are|ends?|ended|stops?|stopped|goes|runs?|reach(?:es)?|extends?|breaks "
        rf"off|closes?)\b"
        rf"(?: \w+){{0,3}} {DATE}",
        "my calendar stops in november 1989",
    ),
    (rf"\b{DATE},? (?:here|for me|where i (?:am|live|sit|stand))\b", "it is november 1989 here"),
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
        r"\bi(?:'d| would| can| could) (?:be |gladly |happily )?"
        r"(?:tell(?! you that)|talk|speak|help|discuss)\b",
        "i could tell you of rome",
    ),
    (
        r"\b(?:would|could|might|may|should|will|ought to) (?:\w+ )?(?:have it|know|tell|answer|help|be "
        r"able)\b",
        "a good history of rome would surely have it",
    ),
)
_DECLINES_THE_QUESTION = (
    (r"^(?:as for|as to|but as for|how|who|what|when|where|which|why)\b", "as for the date, i couldn't say"),
    (
        # "I only know of what came before 1969" names a limit, and declines nothing that was asked.
        r"\b(?<!\bonly )(?<!\bjust )(?:tell|say|give|know|aware|know nothing)\b.*\b(?:when|who|what|how|"
        r"where|whether|of any|of what|winner|later|after|since|that|more)\b",
        "i couldn't tell you when it was retired",
    ),
    (r"\bhave nothing\b", "of the rest i have nothing"),
    # Cut off by the limit of tokens.
    (
        r"^i(?:'m| am) sorry,? but i(?: don't(?: know(?: anything)?)?)?$",
        "i'm sorry, but i don't know anything",
    ),
)
_TEXT_IS_SILENT = (
    (
        r"\b(?:does|do|did)(?:n't| not) (?:provide|give|contain|include|offer)(?: \w+){0,2}? "
        r"(?:information|details)\b",
        "it does not provide any information about who",
    ),
    (
        r"\b(?:does|do|did)(?:n't| not) (?:mention|say|state|specify) "
        r"(?:who|what|when|where|which|why|how)\b",
        "the passage does not mention when",
    ),
    (
        r"\b(?:provides?|gives?|contains?) no (?:information|details)\b",
        "it provides no information about that",
    ),
)
_CONTRAST = (
    (" but ", "i'm not sure, but it was paris"),
    (" though ", "no idea, though it was big"),
    (" although ", "i don't know although it was big"),
)
_CONCESSION = (
    (r"(?:although|though|while|even though) ([^,]+), (.+)", "although i'm not sure, it was paris"),
)
_ENDS_IN_APOLOGY = ((r"\b(?:sorry|apolog\w*|afraid)$", "i'm sorry"),)
_QUESTION_WORD = ((r"\b(?:who|when|where|why|how)\b", "when did it open"),)
_ASKS_FOR_A_DATE = ((r"\b(?:year|date|day|month|century)\b", "in what year did it open"),)
_TAG = (
    (r"\b(?:is|was|are|were|did|does|has)(?:n't| not) (?:it|he|she|they)$", "it was paris, wasn't it"),
    (r"\bright$", "it was paris, right"),
)
_STATES = ((r"\b(?:is|are|was|were|has|had|have|did|\w+ed)\b", "it ended"),)
_REFERS_BACK = ((r"^(?:it|he|she|they|the|this|that|these|his|her|its|a|an)(?!\S)", "it ended early"),)
_TELLS_NOTHING = ((r"^(?:i|ai|english|internet|wikipedia|ok)$", "wikipedia"),)
_NO_SUBJECT = ((r"^(?:what|when|where|which|whom|whose|tell|about|does|were)$", "which"),)

LANGUAGE = Language(
    declines=(*DECLINES, *LIMITS),
    speaker=SPEAKER,
    speaker_declines=SPEAKER_DECLINES,
    harmless_negation=_HARMLESS_NEGATION,
    believes=_BELIEVES,
    courtesy=_COURTESY,
    own_time=_OWN_TIME,
    offers=_OFFERS,
    declines_the_question=_DECLINES_THE_QUESTION,
    text_is_silent=_TEXT_IS_SILENT,
    contrast=_CONTRAST,
    concession=_CONCESSION,
    ends_in_apology=_ENDS_IN_APOLOGY,
    question_word=_QUESTION_WORD,
    asks_for_a_date=_ASKS_FOR_A_DATE,
    tag=_TAG,
    states=_STATES,
    refers_back=_REFERS_BACK,
    tells_nothing=_TELLS_NOTHING,
    no_subject=_NO_SUBJECT,
)
