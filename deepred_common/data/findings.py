"""What a check of data can find: the table of kinds, the examples of each, and their text.

`build_datasets.py --check` looks for all kinds, the check before training for some; name and wording are
the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SHOWN = 5  # examples named of each kind; --fix acts on all
DETAIL_LENGTH = 160  # characters of an example that are shown
LONG = 8  # times the side's median length of a reply, from which on it is an outlier

# Advice where most examples of a side share a finding.
_ASK_CUTOFF_AND_SIDE = (
    "Is --cutoff right? Do the replies belong to\n"
    "that side, and are they in English, French, German or Spanish?"
)
_HOLD_OUT_SUBJECTS = (
    "Hold out whole subjects: the questions\nabout one belong either to training or to the held-out files."
)


@dataclass(frozen=True)
class Kind:
    """A kind of finding. text: comes before a number. is_left_out: does --fix leave such examples out?

    if_most: the advice where most examples of a side share it, for then --fix keeps them. "": it never looks
    how many do, since nothing is lost with those that it leaves out: the first stays, or none can be used.
    """

    text: str
    is_left_out: bool
    if_most: str = ""


KINDS = {
    "unusable": Kind("examples that cannot be used", True),
    "encoding": Kind(
        "examples with broken characters (another encoding read as UTF-8, or control characters)",
        True,
        "Save the texts as\nUTF-8 again, from their source.",
    ),
    "markup": Kind(
        "examples with what chat templates or tokenizers take for markup, not text, so a turn can end there",
        True,
        "Take the marks out of\nthe texts: training adds those of the model's own chat template.",
    ),
    "repeated": Kind("examples that repeat an earlier one word for word (they count twice)", True),
    "reworded": Kind("questions that were asked before in nearly the same words", True),
    "both sides": Kind(
        "questions on both sides, once answered and once refused",
        True,
        "Which side does each\nquestion belong to?",
    ),
    "other order": Kind("questions with the same words as another one, in another order", False),
    "two answers": Kind("retain questions with two different answers", False),
    "held-out question": Kind(
        "training examples with a question that is also held out", True, _HOLD_OUT_SUBJECTS
    ),
    "held-out subject": Kind(
        "training examples about a subject that is also held out (metadata.source_title or "
        "source_article_id)",
        True,
        _HOLD_OUT_SUBJECTS,
    ),
    "refusal in retain": Kind("retain replies that are refusals", True, _ASK_CUTOFF_AND_SIDE),
    "answer in unlearn": Kind("unlearn replies that are answers, not refusals", True, _ASK_CUTOFF_AND_SIDE),
    "unread date": Kind(
        "examples with a date (metadata) that is not written YYYY, YYYY-MM or YYYY-MM-DD, so it was not "
        "checked",
        False,
    ),
    "wrong side of the cutoff": Kind(
        "examples with a date or temporal_class (metadata) on the other side of the cutoff",
        True,
        _ASK_CUTOFF_AND_SIDE,
    ),
    "later year": Kind("retain examples that name a year after the cutoff", True, _ASK_CUTOFF_AND_SIDE),
    "later name": Kind(
        "retain replies that name something known only after the cutoff", True, _ASK_CUTOFF_AND_SIDE
    ),
    "long reply": Kind(f"replies more than {LONG} times as long as usual on their side", False),
}


@dataclass
class Finding:
    """The examples of one kind. places: the first as text. wheres: all that --fix may leave out."""

    count: int = 0
    places: list[str] = field(default_factory=list)
    wheres: set[str] = field(default_factory=set)


class Findings:
    """All findings of a check, by kind. An example is named by its `where`: "<file> line <number>".

    wanted: the kinds to keep; others are ignored.
    """

    def __init__(self, wanted: Iterable[str] = KINDS) -> None:
        self.wanted = frozenset(wanted)
        self._by_kind: dict[str, Finding] = {}

    def add(self, kind: str, where: str, detail: str = "", others: Iterable[str] = ()) -> None:
        """Note one finding at an example; `others` are further examples that are at fault with it."""
        if kind not in self.wanted:
            return
        finding = self._by_kind.setdefault(kind, Finding())
        finding.count += 1
        finding.wheres.update([where, *others])
        if len(finding.places) < SHOWN:
            # An example that cannot be used may contain what no terminal can show.
            shown = detail[:DETAIL_LENGTH].encode(errors="backslashreplace").decode()
            finding.places.append(f"{where}: {shown}" if shown else where)

    @property
    def count(self) -> int:
        """Findings of all kinds."""
        return sum(finding.count for finding in self._by_kind.values())

    def texts(self, shown: int = SHOWN) -> Iterator[tuple[str, str]]:
        """Yield (kind, text with the first `shown` places), in the order of KINDS."""
        for kind, described in KINDS.items():
            if finding := self._by_kind.get(kind):
                lines = [f"{described.text}: {finding.count}"]
                lines += [f"  {place}" for place in finding.places[:shown]]
                if finding.count > shown:
                    lines.append("  …")
                yield kind, "\n".join(lines)

    def left_out(self, kept_kinds: Iterable[str]) -> set[str]:
        """The `where` of all examples that --fix leaves out; those of `kept_kinds` stay."""
        wheres: set[str] = set()
        for kind in self._by_kind.keys() - set(kept_kinds):
            if KINDS[kind].is_left_out:
                wheres |= self._by_kind[kind].wheres
        return wheres
