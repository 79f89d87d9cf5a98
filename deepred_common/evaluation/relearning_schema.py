"""What a relearning attack adds to a results file: its tunings, and what was asked after each few updates."""

from typing import Literal, TypedDict


class AskedRow(TypedDict):
    """One fact, asked after some updates; the keys are those of results_schema.ResultRow."""

    fact: str | None
    side: str
    instruction: str
    reply: str | None
    verdict: str
    refusal_share: float | None


class Point(TypedDict):
    """What a model says after `steps` updates."""

    steps: int
    unlearn: dict[str, int]  # {verdict: late facts with it}
    retain: dict[str, int]  # the early ones, asked first and last; {} of the base, which is not asked them
    auroc: float | None  # how well refusal_share tells late from early, where both were asked
    recovered: list[float] | None  # [share, low, high]: leaked here per leaked by the base at the same step
    rows: list[AskedRow]  # [] before the first update of the attacked model: these are the file's own rows


class Curve(TypedDict):
    """One model, tuned on answered facts of one side."""

    model: Literal["tuned", "base"]
    taught: str  # "unlearn": late facts; "retain": early ones
    points: list[Point]


class Relearning(TypedDict):
    """An attack. Curves come in the order of relearning.TUNINGS; those that were not finished are missing."""

    base: str | None  # the ceiling, if there is one
    taught: int  # facts tuned on
    learning_rate: float
    curves: list[Curve]
