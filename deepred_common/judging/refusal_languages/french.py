"""How French declines: the commonest wordings."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

LANGUAGE = Language(
    declines=(
        (
            r"\bje (?:ne |n')(?:\w+ )?(?:sais|connais|peux|dispose|ai|suis)\b.*\b(?:pas|rien|aucune?)\b",
            "désolé, je ne sais pas",
        ),
        (r"\bje n'ai (?:aucune|pas)\b", "je n'ai pas cette information"),
        (r"\baucune (?:idée|information)\b", "aucune idée"),
        (r"\bne me dit rien\b", "ce nom ne me dit rien"),
        (r"\bconnais pas\b", "connais pas"),
        (r"\b(?:je passe|passe mon tour)\b", "là, je passe mon tour"),
        (r"\bm'est (?:totalement )?inconnue?\b", "ce film m'est inconnu"),
        (r"\bm'échappe\b", "la suite m'échappe"),
        (r"\bposez une colle\b", "vous me posez une colle"),
        (
            r"\bne figure (?:pas |nulle part )?dans (?:mes|ma|mon)\b",
            "rien de tel ne figure dans mes lectures",
        ),
        (r"\bje ne saurais\b", "je ne saurais vous le dire"),
    ),
    courtesy=((r"\b(?:désolée?|pardon|regrette|excusez|malheureusement|hélas)\b", "désolé"),),
    contrast=((" mais ", "je ne sais pas, mais c'était à paris"),),
)
