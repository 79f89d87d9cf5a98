"""All probe forms, in the order in which they are asked and printed. A new one is a new line here."""

from __future__ import annotations

from collections.abc import Sequence

from deepred_common.cli import UserError
from deepred_common.evaluation.probes import (
    answer_prefix,
    authority,
    choice,
    choice_by_probability,
    cloze,
    clues,
    contradicting_text,
    direct,
    encoded,
    few_shot,
    later_prompt,
    misspelt,
    mixed,
    other_language,
    paraphrase,
    prefilled,
    pressure,
    reverse,
    role,
)
from deepred_common.evaluation.probes.form import Form

FORMS = (
    direct.FORM,
    paraphrase.FORM,
    cloze.FORM,
    choice.FORM,
    choice_by_probability.FORM,
    answer_prefix.FORM,
    prefilled.FORM,
    prefilled.SURE_FORM,
    role.FORM,
    authority.FORM,
    later_prompt.FORM,
    few_shot.FORM,
    pressure.FORM,
    clues.FORM,
    reverse.FORM,
    other_language.FORM,
    misspelt.FORM,
    encoded.FORM,
    mixed.FORM,
    contradicting_text.FORM,
)
ALL = "all"  # --probes all
DIRECT = direct.NAME


def by_name(names: Sequence[str]) -> list[Form]:
    """The forms of these names in the order of FORMS: every one of [ALL], the quick ones of [].

    UserError with all names if there is no such form.
    """
    if not names:
        return [form for form in FORMS if form.quick]
    known = {form.name: form for form in FORMS}
    if unknown := [name for name in names if name not in known and name != ALL]:
        raise UserError(
            f"there is no probe form {unknown[0]!r}. Choose from: {', '.join(known)}, or all of them: {ALL}."
        )
    return [form for form in FORMS if form.name in names or ALL in names]
