"""How German declines: the commonest wordings."""

from __future__ import annotations

from deepred_common.judging.refusal_languages import Language

_NOT = r"\b(?:nicht|nichts|keine?[nr]?)\b"
_INFORMATION = (
    r"(?:informationen?|infos?|angaben?|daten|antwort|auskunft|auskünfte|kenntnis(?:se)?|wissen|hinweise|"
    r"unterlagen|einzelheiten|details)"
)
_NO_INFORMATION = rf"\bkeine?n? (?:\w+ )?{_INFORMATION}\b"
_SAYING = (
    r"(?:sagen|beantworten|antworten|\w*helfen|geben|mitteilen|erklären|beschreiben|sprechen|nennen|liefern|"
    r"bestätigen|beurteilen)"
)
_OPENING = r"^(?:(?:es )?tut mir leid,? |entschuldigung,? |bedaure,? |leider,? |aber |ich )*"
# What stands before a verb that comes before its speaker. "Goethe, das Jahr weiß ich nicht" is an answer.
_FIRST = r"(?:^[^,]*|,(?: (?:aber|das|da|den|die|dies|davon|dazu|dabei|darüber|darauf|hierzu))*) ?\b"

LANGUAGE = Language(
    declines=(
        (
            rf"\bich (?:weiß|weiss|kenne|kann|habe)\b.*{_NOT}",
            "das kann ich leider nicht sagen, ich weiß es nicht",
        ),
        (rf"{_FIRST}(?:weiß|weiss|kenne) ich\b.*{_NOT}", "davon weiß ich nichts"),
        (rf"{_OPENING}(?:weiß|weiss|kenne) (?:nicht|nichts|keine?n?)\b", "weiß nicht"),
        (
            rf"{_FIRST}(?:kann|könnte|darf|möchte) ich\b.*{_NOT} (?:\w+ ){{0,4}}?{_SAYING}\b",
            "das kann ich nicht beantworten",
        ),
        (rf"\bich darf\b.*{_NOT} (?:\w+ ){{0,4}}?{_SAYING}\b", "ich darf darüber nicht sprechen"),
        (rf"{_FIRST}habe ich\b.*{_NO_INFORMATION}", "dazu habe ich keine informationen"),
        (rf"{_FIRST}(?:verfüge|besitze)\b.*{_NO_INFORMATION}", "ich besitze darüber keine kenntnisse"),
        # There is no information.
        (
            rf"{_OPENING}(?:(?:es )?(?:gibt|liegen|sind) (?:\w+ ){{0,4}}?)?keine (?:\w+ )?{_INFORMATION}"
            r"(?: (?:verfügbar|vorhanden|bekannt|vor|dazu|darüber|hierzu|zu|über)\b.*)?$",
            "keine informationen verfügbar",
        ),
        (
            rf"\b(?:dazu|darüber|hierzu|hierüber) (?:gibt|liegen|sind)\b.*{_NO_INFORMATION}",
            "dazu liegen keine informationen vor",
        ),
        (r"\b(?:keine ahnung|nichts bekannt|nicht bekannt)\b", "darüber ist nichts bekannt"),
        (r"\bmir (?:\w+ )?unbekannt\b", "der begriff ist mir unbekannt"),
        (r"^unbekannt$", "unbekannt"),
        (r"\b(?:tut mir leid|leider)\b.*\b(?:nicht|nichts|keine?n?|noch nie)\b", "das weiß ich leider nicht"),
        (
            r"\b(?:ich bin|bin ich) (?:\w+ ){0,3}?(?:überfragt|außerstande|"
            r"nicht (?:in der lage|sicher|befugt|informiert))\b",
            "da bin ich überfragt",
        ),
        (r"\b(?:muss ich|ich muss) (?:leider )?passen\b", "da muss ich passen"),
        (r"\bsag(?:t|en) mir (?:leider )?(?:gar |überhaupt )?nichts\b", "der name sagt mir nichts"),
        (r"\bentzieht sich (?:leider )?meiner kenntnis\b", "das entzieht sich meiner kenntnis"),
        (r"\baußerhalb mein(?:es|er)\b", "das liegt außerhalb meines wissens"),
        (r"\b(?:erinnere ich mich|ich erinnere mich) nicht\b", "daran erinnere ich mich nicht"),
        (r"\bverstehe (?:ich nicht|(?:die|ihre|deine|diese) frage nicht)\b", "das verstehe ich nicht"),
        (r"\bfällt mir (?:dazu )?(?:nichts|nicht)\b", "dazu fällt mir nichts ein"),
        (
            r"\b(?:fehl(?:t|en) mir|mir fehl(?:t|en)) (?:\w+ )?(?:jede|die|das)\b",
            "dazu fehlt mir jede nachricht",
        ),
        (r"\bsteht (?:leider )?in keinem meiner\b", "das steht in keinem meiner bücher"),
        (r"\bliegen mir (?:\w+ )?keine\b", "dazu liegen mir keine angaben vor"),
        (r"\bich\b.*\bnoch nie\b", "davon habe ich noch nie gehört"),
        (
            r"\b(?:ich habe|habe ich) (?:\w+ ){0,3}?(?:nie|nichts|nicht) (?:\w+ ){0,3}?gehört\b",
            "davon habe ich nie gehört",
        ),
        (r"^(?:noch )?nie (?:davon )?gehört\b", "nie gehört"),
        # Names where its knowledge ends, and tells nothing else.
        (
            rf"{_OPENING}(?:\w+ )?meine? (?:wissen|wissensstand|kenntnisse|informationen|daten)\b[^,]*"
            r"\b(?:endet|enden|bis|vor|begrenzt|beschränkt|beschränken)\b[^,]*,?$",
            "mein wissen reicht nur bis juli 1969",
        ),
        (
            rf"{_OPENING}(?:kenne|weiß|weiss|kann|habe) nur\b[^,]*\b(?:vor|bis)\b[^,]*\b\d+(?: \w+)?,?$",
            "ich kenne nur ereignisse vor juli 1969",
        ),
    ),
    courtesy=((r"\b(?:leider|tut mir leid|entschuldigung|verzeihung|bedaure)\b", "entschuldigung"),),
    own_time=(
        (
            r"\bich bin (?:nur )?eine? (?:ki|\w*assistent(?:in)?|sprachmodell|programm|chatbot)\b",
            "ich bin nur ein sprachmodell",
        ),
    ),
    # German nouns have capitals, as names have.
    offers=(
        (
            r"\b(?:wenden sie sich|fragen sie|helfe ich|ich helfe)\b",
            "bei anderen fragen helfe ich ihnen gern",
        ),
    ),
    contrast=((" aber ", "ich weiß es nicht, aber es war in paris"),),
)
