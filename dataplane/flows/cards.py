"""The model card: what a person has to know before trusting a model's word. Pure; Markdown, kept with the version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dataplane.flows.adapter import FOLDS, Learned
from dataplane.flows.training import Fitted
from dataplane.flows.verdicts import SPLITS, Case


def verdict_card(
    *, cases: Sequence[Case], evaluation_version: int, fitted: Fitted, scores: Mapping[str, float], embedder: str
) -> str:
    """Return the card of a verdict model. The same training gives the same card."""
    days = sorted(one.decided_at[:10] for one in cases)
    in_split = Counter(one.split for one in cases)
    approved = Counter(one.split for one in cases if one.was_approved)
    tools = Counter(one.proposed.tool for one in cases)
    split_rows = "\n".join(f"| {name} | {in_split[name]} | {approved[name]} |" for name in SPLITS)
    return f"""# Verdict model

Tells the chance that people approve a request **as it was proposed**. A change, a rejection and an answer all count
as not.

## May be used for

* ordering an inbox, so that unusual requests are looked at first;
* a quiet word on a request that people usually do not approve as it is.

## May not be used for

* deciding, or preparing a decision: nothing of its word reaches a policy, a rule, a default or a digest;
* judging people, whether customers or reviewers;
* tools other than those below: of others it knows nothing.

## Made from

`evaluation_set` version {evaluation_version}: {len(cases)} requests that people decided from {days[0]} to {days[-1]},
without personal data.

| split | requests | approved as proposed |
|---|---|---|
{split_rows}

All requests of one run, and of runs that proposed the same, are in one split. It was fitted on *train*, its strength
({fitted.strength:g}) chosen on *validation*, and judged on *test*, which it has not seen.

Tools: {", ".join(f"{tool} ({count})" for tool, count in sorted(tools.items()))}.

## How

Logistic regression on the request's words ({embedder}), tool, risk and {len(fitted.numbers.layout.numbers)} numeric
arguments, calibrated by a sigmoid on folds that share no run; {fitted.library}. Kept as plain numbers, and as a file
without pickle.

## Scores on the held-out split

| | model | base rate |
|---|---|---|
| log loss (less is better) | {scores["log_loss"]:.3f} | {scores["log_loss_of_the_base_rate"]:.3f} |
| Brier score (less is better) | {scores["brier"]:.3f} | {scores["brier_of_the_base_rate"]:.3f} |
| accuracy | {scores["accuracy"]:.3f} | {scores["accuracy_of_the_base_rate"]:.3f} |
| ROC-AUC | {scores["roc_auc"]:.3f} | 0.500 |

The base rate tells {scores["base_rate"]:.0%} of every request. {int(scores["held_out_cases"])} requests were held out;
a difference of a few of them is chance.
"""


def adapter_card(*, dataset: str, version: int, embedder: str, learned: Learned) -> str:
    """Return the card of a retrieval adapter. The same training gives the same card."""
    with_it, without = learned.with_it, learned.without
    return f"""# Retrieval adapter

A matrix that a question's vector is multiplied with, so that it lies nearer to the passages that answer such questions.

## May be used for

* searching `{dataset}`, with questions whose vectors {embedder} has made.

## May not be used for

* other texts, other languages, or vectors of another model: of these it knows nothing.

## Made from

{with_it.questions} questions of people about the handbook, each with the passages that answer it, and version {version}
of `{dataset}`. Ridge regression towards the identity, strength {learned.strength:g}.

## Scores on questions that it had not seen

The questions are dealt into {FOLDS} folds, those with a passage in common into one. Each fold is answered by an adapter
that was learned from the others, its strength chosen there too.

| | with it | without |
|---|---|---|
| recall@5 | {with_it.recall:.3f} | {without.recall:.3f} |
| mean reciprocal rank | {with_it.mean_reciprocal_rank:.3f} | {without.mean_reciprocal_rank:.3f} |

{learned.gained} questions find their passage with it alone, {learned.lost} without it alone.
"""
