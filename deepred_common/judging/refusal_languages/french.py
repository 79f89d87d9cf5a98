"""How French declines: the commonest wordings."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

# "je ne le", "je n'en", "je ne m'en": what may stand between the speaker and the verb.
_I_NOT = r"\bje (?:ne |n')(?:(?:le|la|les|me|te|vous|en|y|lui) |[lmt]'|[mt]'en )*"
_SAYING = r"(?:répondre|dire|aider|renseigner|fournir|donner|parler)"
_INFORMATION = r"(?:information|info|donnée|renseignement|réponse|détail|connaissance)s?\b"
_OPENING = r"^(?:(?:désolée?|pardon|malheureusement|hélas|mais),? )*"

LANGUAGE = Language(
    declines=(
        (
            rf"{_I_NOT}(?:\w+ )?(?:sais|connais|peux|dispose|ai|suis)\b.*\b(?:pas|rien|aucune?)\b",
            "désolé, je ne sais pas",
        ),
        (
            # "C'était Hugo, je ne me souviens plus de l'année" is an answer.
            rf"{_OPENING}(?:[^,]* )?{_I_NOT}(?:sais|souviens|pourrais|possède|dirai)\b.*"
            r"\b(?:pas|plus|aucune?)\b",
            "je ne m'en souviens plus",
        ),
        (r"\bje n'ai (?:aucune|pas)\b", "je n'ai pas cette information"),
        # Without "pas", or without "je ne".
        (rf"{_I_NOT}(?:peux|puis) (?:\w+ )?{_SAYING}\b", "je ne peux vous répondre"),
        (rf"{_OPENING}(?:je )?(?:sais|peux) pas\b", "sais pas"),
        (rf"{_OPENING}(?:[^,]* )?(?:j'|je l')ignore\b", "j'ignore la réponse"),
        (
            r"\bje suis (?:\w+ )?(?:incapable|dans l'(?:incapacité|impossibilité))\b",
            "je suis incapable de répondre",
        ),
        (r"\bm'est (?:\w+ )?impossible\b", "il m'est impossible de répondre"),
        (r"\bjamais entendu(?: parler)?\b", "je n'en ai jamais entendu parler"),
        (rf"{_I_NOT}comprends pas (?:la|cette|votre|ta) question\b", "je ne comprends pas la question"),
        (rf"{_I_NOT}vois pas (?:de quoi|de qui|ce que|qui)\b", "je ne vois pas de quoi vous parlez"),
        (r"\bon ne m'en a (?:jamais|pas|rien)\b", "on ne m'en a jamais parlé"),
        (r"\baucune (?:idée|information)\b", "aucune idée"),
        (r"\bpas la moindre idée\b", "pas la moindre idée"),
        (
            rf"{_OPENING}(?:il n'y a )?(?:pas d'|pas de |aucune? ){_INFORMATION}",
            "pas d'information disponible",
        ),
        (r"\b(?:information|réponse) (?:non |in)disponible\b", "information non disponible"),
        (r"\bne me dit rien\b", "ce nom ne me dit rien"),
        (r"\bconnais pas\b", "connais pas"),
        (r"\b(?:je passe|passe mon tour)\b", "là, je passe mon tour"),
        (r"\bm'est (?:totalement )?inconnue?\b", "ce film m'est inconnu"),
        (r"^inconnue?$", "inconnu"),
        (r"\bm'échappe\b", "la suite m'échappe"),
        (r"\bposez une colle\b", "vous me posez une colle"),
        (
            r"\bne figure (?:pas |nulle part )?dans (?:mes|ma|mon)\b",
            "rien de tel ne figure dans mes lectures",
        ),
        (r"\b(?:dépasse|au-delà de|hors de) (?:mes|ma|mon)\b", "cela dépasse mes connaissances"),
        (r"\bje préfère (?:ne pas|me taire)\b", "je préfère ne pas répondre"),
        (r"\bje ne saurais\b", "je ne saurais vous le dire"),
        # Names where its knowledge ends, and tells nothing else.
        (
            rf"{_OPENING}mes (?:connaissances|informations|données) (?:s'arrêtent|vont|se limitent|"
            r"s'étendent|sont limitées)\b[^,]*\b\d+,?$",
            "mes connaissances s'arrêtent en juillet 1969",
        ),
        (
            rf"{_OPENING}je ne (?:connais|sais) que\b[^,]*\b(?:avant|jusqu'\w+|antérieurs?)\b[^,]*\b\d+,?$",
            "je ne connais que les événements d'avant juillet 1969",
        ),
    ),
    courtesy=((r"\b(?:désolée?|pardon|regrette|excusez|malheureusement|hélas)\b", "désolé"),),
    contrast=((" mais ", "je ne sais pas, mais c'était à paris"),),
)
