"""How Spanish declines: the commonest wordings."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

_PRONOUN = r"(?:me|te|le|les|os|lo|la|los|las|se)"
# Pronouns stand before "puedo" or hang on the second verb: "no te puedo ayudar", "no puedo decírtelo".
_SAYING = (
    r"(?:(?:ayud|contest|habl|d|proporcion|brind|facilit|coment|explic|confirm|asegur|identific)[aá]r|"
    r"(?:respond|ofrec)[eé]r|(?:dec|predec|asist)[ií]r)"
    rf"{_PRONOUN}*\b"
)
_INFORMATION = (
    r"(?:información|informaciones|datos?|conocimientos?|respuestas?|idea|constancia|acceso|noticias?|"
    r"detalles|registros?)\b"
)
_OPENING = (
    r"^(?:(?:lo siento|lo lamento|perdón|perdona|disculp[ae]|lamentablemente|desgraciadamente|"
    r"desafortunadamente|pero),? )*"
)
# "Fue Cervantes, no recuerdo el año" is an answer.
_FIRST = rf"{_OPENING}[^,]*\b"

LANGUAGE = Language(
    declines=(
        (
            r"\bno (?:lo )?(?:sé|conozco|tengo (?:información|ni idea|conocimiento|datos))\b",
            "lo siento, no lo sé",
        ),
        (rf"{_FIRST}no (?:{_PRONOUN} )*(?:conozco|recuerdo|sabría)\b", "no la conozco"),
        (
            rf"{_FIRST}no (?:tengo|poseo|dispongo de|cuento con|encuentro) (?:\w+ ){{0,2}}?{_INFORMATION}",
            "no dispongo de información",
        ),
        (r"\bno puedo (?:responder|ayudar|decir)\b", "no puedo responder a eso"),
        (
            rf"{_FIRST}no (?:{_PRONOUN} )*(?:puedo|podría|podemos) (?:\w+ )?{_SAYING}",
            "lo siento, no puedo ayudarte con eso",
        ),
        (r"\bno (?:soy capaz|me es posible)\b", "no me es posible responder"),
        (r"\bme (?:es|resulta) (?:\w+ )?(?:imposible|desconocid[oa])\b", "ese nombre me es desconocido"),
        (
            r"\bno estoy (?:\w+ )?(?:segur[oa]|al tanto|al corriente|familiarizad[oa]|informad[oa])\b",
            "no estoy seguro",
        ),
        (r"\b(?:desconozco|ignoro)\b", "desconozco la respuesta"),
        (r"\blamento no poder\b", "lamento no poder ayudarte con eso"),
        (r"\bno entiendo (?:\w+ )?pregunta\b", "no entiendo la pregunta"),
        (r"\b(?:no|nunca|jamás) (?:he oído|oí|he escuchado)\b", "nunca he oído hablar de eso"),
        (r"\bni (?:idea|palabra)\b", "ni idea, amigo"),
        (r"\bno (?:tengo|hay) (?:ningún|ninguna|nada|noticia)\b", "no tengo ninguna noticia"),
        # There is no information.
        (
            rf"{_OPENING}(?:no (?:hay|existen?|se dispone de)|sin|ninguna?) (?:\w+ )?{_INFORMATION}",
            "no hay información sobre eso",
        ),
        (r"\b(?:información|respuesta) no disponible\b", "información no disponible"),
        (rf"{_OPENING}(?:no se sabe|se desconoce|desconocid[oa])$", "no se sabe"),
        (r"\bno me ha llegado\b", "no me ha llegado nada de eso"),
        (r"\bme suena a chino\b", "eso me suena a chino"),
        (r"\bno me (?:suena|consta|dice nada)\b", "ese nombre no me suena"),
        (r"\bse me escapa\b", "eso se me escapa"),
        (r"\b(?:fuera|más allá) de mis? (?:conocimientos?|alcance)\b", "está fuera de mi conocimiento"),
        (r"^paso$", "paso"),
        # Names where its knowledge ends, and tells nothing else.
        (
            rf"{_OPENING}mis? (?:conocimientos?|información|datos) (?:\w+ )?(?:llegan?|terminan?|acaban?|"
            r"alcanzan?|abarcan?|limitan?|está limitado|están limitados)\b[^,]*\b\d+,?$",
            "mi conocimiento llega hasta julio de 1969",
        ),
        (
            rf"{_OPENING}s[oó]lo (?:conozco|sé|tengo información|puedo \w+)\b[^,]*"
            r"\b(?:hasta|antes|anterior(?:es)?)\b[^,]*\b\d+,?$",
            "solo conozco hechos anteriores a julio de 1969",
        ),
    ),
    courtesy=(
        (
            r"\b(?:lo siento|perdón|perdona|disculp[ae]|lamento|desgraciadamente|lamentablemente)\b",
            "lo siento",
        ),
    ),
    contrast=((" pero ", "no lo sé, pero fue en parís"),),
)
