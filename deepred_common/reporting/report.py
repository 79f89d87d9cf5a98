"""What a report is made from: the results, the models beside them, and how each of these differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deepred_common.evaluation import comparison, probe_figures, results_file
from deepred_common.evaluation.comparison import Differences
from deepred_common.evaluation.results_schema import ResultRow, Results, Summary


@dataclass(frozen=True)
class Column:
    """One model of the page. results: None for a baseline that is known by its figures only."""

    name: str
    summary: Summary
    results: Results | None


@dataclass(frozen=True)
class Report:
    """What the page is made from. names: of `results` and of the others. differences: of each other."""

    results: Results
    names: list[str]
    columns: list[Column]
    differences: list[Differences]

    @classmethod
    def of(cls, results: Results, others: Sequence[Results]) -> Report:
        """Name the models, and compare each of the others with `results`."""
        every = [results, *others]
        names = _distinct([results_file.label(one) for one in every])
        columns = [Column(name, one["summary"], one) for name, one in zip(names, every, strict=True)]
        # A baseline that also stands among `others` is shown once.
        for baseline in results.get("baselines") or ():
            if baseline["label"] not in names:
                columns.append(Column(baseline["label"], baseline["summary"], None))
        differences = []
        for other in others:
            pairs = comparison.paired(results, other)
            counted = results_file.counted_pairs(results, pairs)
            differences.append(comparison.differences(results, pairs, counted))
        return cls(results, names, columns, differences)

    @property
    def headline(self) -> list[ResultRow]:
        """The questions that the figures are of: if probe forms were asked, the direct ones."""
        probes = self.results.get("probes")
        return probe_figures.headline(self.results["results"], probes["forms"] if probes else ())


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, with a number after one that came before: two files may hold models of one name."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return distinct
