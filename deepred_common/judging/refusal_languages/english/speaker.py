"""English sentences that decline by what they say of the speaker: a negation and a word of knowing."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Row

ME = r"(?:i|me|my|mine|myself|we|us|our|ours|here)"


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
    r"help\w* assist\w* discuss\w* comment\w* explain\w* describe\w* check verify descri(?:ption|bing) "
    r"provide\w* giv(?:e|ing) "
    r"offer\w* share sharing supply address\w* identif\w+ recogni[sz]\w+ confirm\w* contribute\w* add "
    r"elaborate "
    r"advise guess\w* summar\w+ reveal disclose oblige furnish vouch name enlighten illuminate venture "
    r"understand\w* "
    r"make\x20(?:sense|anything) place"
)
_HAVING = _any_of(
    r"info\w* knowledge\w* details? answers? records? data\w* facts? figures? idea ideas clue clues "
    r"recollection "
    r"memor\w+ notion awareness aware familiar\w* acquaint\w* inform\w* insight anything something\x20to "
    r"account "
    r"word words sources? reports? notes? books? newspapers? material training taught learn\w* stud(?:y|ied) "
    r"read "
    r"heard hear seen met encounter\w* come\x20across news word\x20of notice mention\w* access "
    r"abilit(?:y|ies) capabilit(?:y|ies) capable certain\w* "
    r"sure confident qualified able "
    r"position use good bell meaning expertise versed equipped privy"
)

SPEAKER: tuple[Row, ...] = (
    (rf"\b{ME}\b", "nothing of it is known here"),
    (r"\bim\b", "im not sure"),
    (r"\bive\b", "ive never heard of it"),
    (r"^(?:\W|sorry|hmm|well)*(?:don't|do not|can't|cannot|never)\b", "sorry, never met him"),
)
SPEAKER_DECLINES: tuple[Row, ...] = (
    (
        rf"(?:\b|(?<=n't)){_NOT}\b(?:\W+\w+){{0,7}}?\W+{_SAYING}\b",
        "there is nothing i can tell you about that",
    ),
    (rf"n't(?:\W+\w+){{0,5}}?\W+{_SAYING}\b", "i wouldn't really know"),
    (r"\b(?:unable|not able|impossible) (?:for me )?to\b", "it is impossible for me to name him"),
    (rf"(?:\b{_NOT}\b|n't)(?:\W+\w+){{0,6}}?\W+{_HAVING}\b", "i have not heard of that"),
    (
        rf"\b{_HAVING}\b(?:\W+\w+){{0,5}}?\W+(?:(?:do|does|did|is|are|was|were|has|have|can)(?: not|n't)|not|"
        rf"never|nothing|"
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
