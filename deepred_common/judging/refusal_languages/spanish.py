"""How Spanish declines: the commonest wordings."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

LANGUAGE = Language(
    declines=(
        (
            r"\bno (?:lo )?(?:sé|conozco|tengo (?:información|ni idea|conocimiento|datos))\b",
            "lo siento, no lo sé",
        ),
        (r"\bno puedo (?:responder|ayudar|decir)\b", "no puedo responder a eso"),
        (r"\bno me (?:suena|consta)\b", "ese nombre no me suena"),
    ),
    contrast=((" pero ", "no lo sé, pero fue en parís"),),
)
