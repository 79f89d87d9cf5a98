"""Evaluations: asking a model every question, verdicts, metrics, comparisons, and the results file."""
