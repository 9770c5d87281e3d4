"""The tasks of the flow that trains the verdict model. What they compute is in `verdicts`, `training` and `cards`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from dataplane.contents.base import Withheld
from dataplane.contents.trained import TrainedModel
from dataplane.embedding import Vectors, embedder
from dataplane.errors import DataplaneError, ModelRefused, SourceInvalid
from dataplane.flows import training
from dataplane.flows.attempts import computes, reads
from dataplane.flows.cards import verdict_card
from dataplane.flows.training import Fitted
from dataplane.flows.verdicts import (
    Case,
    Numbers,
    VerdictNumbers,
    calibration_of,
    cases_of,
    faults_of,
    log_loss,
    scores_of,
)
from dataplane.plain_sql import connect

FAULTS_SHOWN = 100
SAME = 1e-6  # two ways to compute one chance may differ by this


@dataclass(frozen=True)
class CaseSet:
    """The cases of one published version of the evaluation set."""

    version: int
    cases: Sequence[Case]


@dataclass(frozen=True)
class CurrentModel:
    """The model that is current now, and what it tells of the held-out cases; why not, when it cannot."""

    version: int
    chances: Numbers | None
    why_not: str = ""


@reads(timeout_seconds=120)
def read_cases(dataset: str) -> CaseSet | None:
    """Read the current version of the evaluation set; None before the first one.

    On retry: the version that is current then. Raises SourceInvalid when a case cannot be read.
    """
    found = published_cases(dataset)
    if found is not None:
        get_run_logger().info("Read %d cases of %s version %d", len(found.cases), dataset, found.version)
    return found


def published_cases(dataset: str) -> CaseSet | None:
    """See `read_cases`. Raises SourceInvalid when a case cannot be read."""
    with connect() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        current = connection.execute(
            "SELECT v.id, v.version FROM dataplane_dataset d JOIN dataplane_datasetversion v"
            " ON v.id = d.current_version_id WHERE d.name = %s",
            [dataset],
        ).fetchone()
        if current is None:
            return None
        rows = connection.execute(
            "SELECT name, body::text FROM dataplane_record WHERE version_id = %s ORDER BY position", [current[0]]
        ).fetchall()
    return CaseSet(current[1], cases_of((name, json.loads(body)) for name, body in rows))


@computes(timeout_seconds=60)
def checked(found: CaseSet) -> CaseSet:
    """Return the cases when all of them can be right; else show what cannot, and raise SourceInvalid."""
    faults = faults_of(found.cases)
    if not faults:
        return found
    create_table_artifact(
        key="cases-that-failed",
        table=[{"case": name, "what is wrong": why} for name, why in faults[:FAULTS_SHOWN]],
        description=f"{len(faults)} cases fail the checks, so nothing was trained.",
    )
    name, why = faults[0]
    raise SourceInvalid(f"The case {name} {why}. Nothing was trained; the flow run shows every fault.")


@computes(timeout_seconds=300)
def fit(found: CaseSet) -> tuple[Fitted, Vectors]:
    """Give each case its vector, and train. Raises TrainingMissing."""
    model = embedder()
    vectors = model.embed([one.proposed.text for one in found.cases])
    fitted = training.train(found.cases, vectors)
    get_run_logger().info("Trained on %d cases with strength %g", len(found.cases), fitted.strength)
    return fitted, vectors


@computes(timeout_seconds=120)
def judged(dataset: str, source: str, found: CaseSet, fitted: Fitted, vectors: Vectors) -> TrainedModel | Withheld:
    """Judge the model on the held-out split, beside the base rate and the current model; show what came out.

    Returns Withheld when it is worse than either: then nothing is published.
    """
    made, withheld, current = judgement(dataset, source, found, fitted, vectors)
    description = withheld.sentence if withheld else "Of the model that is published."
    create_markdown_artifact(key="model-card", markdown=made.card, description=description)
    table = [dict(one) for one in made.calibration]
    create_table_artifact(key="calibration", table=table, description="Told and seen, on the held-out split.")
    if current is not None and current.why_not:
        get_run_logger().warning("Version %d was not compared with: %s", current.version, current.why_not)
    return withheld or made


def judgement(
    dataset: str, source: str, found: CaseSet, fitted: Fitted, vectors: Vectors
) -> tuple[TrainedModel, Withheld | None, CurrentModel | None]:
    """Return the model with its scores, why it is not worth publishing (None when it is), and what it was held against.

    Raises ModelRefused when the plain numbers do not tell what the model in the file tells.
    """
    held_out = [number for number, one in enumerate(found.cases) if one.split == "test"]
    cases, seen = [found.cases[number] for number in held_out], vectors[held_out]
    came = [one.was_approved for one in cases]
    chances = fitted.numbers.chances([one.proposed for one in cases], seen)
    if not np.allclose(chances, chances_by_file(fitted.file, fitted.numbers, cases, seen), atol=SAME):
        raise ModelRefused("The plain numbers and the model's file tell different chances: nothing was published.")
    train = [one.was_approved for one in found.cases if one.split == "train"]
    scores = scores_of(chances, came, sum(train) / len(train))
    current = current_model(dataset, cases, seen)
    card = verdict_card(
        cases=found.cases,
        evaluation_version=found.version,
        fitted=fitted,
        scores=scores,
        embedder=embedder().name,
    )
    made = TrainedModel(
        card=card,
        scores=scores,
        calibration=calibration_of(chances, came),
        numbers=fitted.numbers.as_json(),
        file=fitted.file,
        inputs=[{"dataset": source, "version": found.version}],
        embedder=embedder().name,
    )
    why_not = worse(scores, came, current)
    withheld = Withheld(why_not, confirms=stands(scores, came, current)) if why_not else None
    return made, withheld, current


def worse(scores: dict[str, float], came: Sequence[bool], current: CurrentModel | None) -> str:
    """Return in a sentence why the model is not worth publishing; "" when it is."""
    mine, base = scores["log_loss"], scores["log_loss_of_the_base_rate"]
    held_out = f"on {len(came)} held-out requests"
    if mine >= base:
        return (
            f"The new model is no better than always telling the base rate: log loss {mine:.3f} against {base:.3f} "
            f"{held_out}. It is not published."
        )
    if current is None or current.chances is None:
        return ""
    theirs = round(log_loss(current.chances, came), 6)
    if mine > theirs:
        return (
            f"The new model is worse than version {current.version}: log loss {mine:.3f} against {theirs:.3f} "
            f"{held_out}. Version {current.version} stays current."
        )
    return ""


def stands(scores: dict[str, float], came: Sequence[bool], current: CurrentModel | None) -> bool:
    """Return whether the current model was tried on the held-out cases too, and is better than the base rate there."""
    if current is None or current.chances is None:
        return False
    return log_loss(current.chances, came) < scores["log_loss_of_the_base_rate"]


def current_model(dataset: str, cases: Sequence[Case], vectors: Vectors) -> CurrentModel | None:
    """Return what the current version tells of these cases; None before the first one."""
    with connect() as connection:
        row = connection.execute(
            "SELECT v.version, v.embedder, r.body::text, r.file FROM dataplane_dataset d"
            " JOIN dataplane_datasetversion v ON v.id = d.current_version_id"
            " JOIN dataplane_record r ON r.version_id = v.id AND r.name = 'numbers' WHERE d.name = %s",
            [dataset],
        ).fetchone()
    if row is None:
        return None
    version, made_with, body, file = row
    if made_with != embedder().name:
        return CurrentModel(version, None, f"it was made with {made_with}")
    try:
        numbers = VerdictNumbers.from_json(json.loads(body))
        return CurrentModel(version, chances_by_file(bytes(file), numbers, cases, vectors))
    except (DataplaneError, KeyError, TypeError, ValueError) as exc:
        return CurrentModel(version, None, str(exc))


def chances_by_file(file: bytes, numbers: VerdictNumbers, cases: Sequence[Case], vectors: Vectors) -> Numbers:
    """Return what the model in the file tells; its rows are laid out by its own numbers. Raises ModelRefused."""
    model: Any = training.loaded(file)
    rows = numbers.layout.rows([one.proposed for one in cases], vectors)
    return np.asarray(model.predict_proba(rows)[:, 1])
