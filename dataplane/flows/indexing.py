"""The task of the flow that makes search indexes. How one is built and checked is in `dataplane.search_index`."""

from __future__ import annotations

from typing import Any

import numpy as np
import psycopg
from pgvector import Vector
from prefect import runtime
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from console.environment import environment
from dataplane import search_index, search_quality
from dataplane.catalogue import IndexParameters
from dataplane.contents.base import Stored
from dataplane.contents.passages import INDEX_FROM_ROWS
from dataplane.contents.search_indexes import SearchPlan
from dataplane.embedding import Vectors, embedder_named
from dataplane.errors import SourceInvalid
from dataplane.flows.attempts import reads
from dataplane.questions import Question, read_questions
from dataplane.search_figures import keep, row_of
from dataplane.search_index import BuiltIndex

OWN_PASSAGES = 100  # asked for themselves where nobody has written questions


@reads(timeout_seconds=560, wait_seconds=5)
def indexed(dataset: str, parameters: IndexParameters) -> SearchPlan:
    """Return how the dataset's current version is to be searched; its index is built and checked by then.

    On retry: what the attempt before has left half-built is dropped; what it had finished is used.
    """
    questions = read_questions(environment().handbook)
    plan, figures = planned(dataset, parameters, questions, flow_run_id=str(runtime.flow_run.id))
    get_run_logger().info(plan.body["sentence"])
    if figures:
        create_table_artifact(key="search-quality", table=figures, description=plan.body["sentence"])
    return plan


def planned(
    dataset: str, parameters: IndexParameters, questions: list[Question], *, flow_run_id: str
) -> tuple[SearchPlan, list[dict[str, Any]]]:
    """See `indexed`; also return the scores over the questions, a row for each way of searching.

    An index that is in service, for fewer rows than usual, stays so unless other `least_rows` are asked for.

    Raises SourceInvalid before the first version, IndexRefused, IndexHeldUp.
    """
    with search_index.building_alone() as connection:
        search_index.clear_away(connection, dataset)
        version = current(connection, dataset)
        serving = search_index.serving(connection, version)
        least_rows = parameters.least_rows or INDEX_FROM_ROWS
        is_kept = bool(serving) and parameters.least_rows is None
        if version.rows < least_rows and not is_kept:
            return exact_plan(version, least_rows, serving), []
        model = embedder_named(version.embedder, whose=f"Version {version.number} of {dataset}")
        built = None if parameters.again else search_index.usable(connection, version)
        if built is None:
            asked = model.embed([one.ask for one in questions]) if questions else own_vectors(connection, version)
            built = search_index.build(
                connection, version, asked, least_recall=parameters.least_recall, flow_run_id=flow_run_id
            )
        figures = []
        if questions:
            with connection.cursor() as cursor:
                exact = search_quality.measure(cursor, version, questions, exactly=True)
                by_index = search_quality.measure(cursor, version, questions, index=built.relation)
                keep(cursor, version.id, exact)
                keep(cursor, version.id, by_index)
            figures = [row_of(score) for score in (exact, by_index)]
        return index_plan(version, built, has_questions=bool(questions)), figures


def current(connection: psycopg.Connection[Any], dataset: str) -> Stored:
    """Return the dataset's current version. Raises SourceInvalid before the first one, or where it is not searched."""
    found = connection.execute(
        "SELECT v.id, v.dataset_id, v.version, v.rows, v.embedder FROM dataplane_dataset d"
        " JOIN dataplane_datasetversion v ON v.id = d.current_version_id WHERE d.name = %s AND v.kind = 'passages'",
        [dataset],
    ).fetchone()
    if found is None:
        raise SourceInvalid(f"No version of the dataset {dataset} is published yet, so there is nothing to index.")
    return Stored(*found)


def own_vectors(connection: psycopg.Connection[Any], version: Stored) -> Vectors:
    """Return vectors of the version's own passages, spread evenly, to ask for where there are no questions."""
    rows = connection.execute(
        "SELECT embedding FROM dataplane_passage WHERE version_id = %s AND position %% greatest(1, %s / %s) = 0"
        " AND vector_norm(embedding) > 0 ORDER BY position LIMIT %s",
        [version.id, version.rows, OWN_PASSAGES, OWN_PASSAGES],
        binary=True,
    ).fetchall()
    return np.array([Vector.from_binary(row[0]).to_numpy() for row in rows], dtype=np.float32)


def exact_plan(version: Stored, least_rows: int, serving: str) -> SearchPlan:
    """`serving`: the index that is in service now, which publishing this takes out of it; empty: none is."""
    return SearchPlan(
        {
            **({"replaces": serving} if serving else {}),
            "dataset": version.dataset,
            "version": version.number,
            "passages": version.rows,
            "method": "exact",
            "sentence": (
                f"Version {version.number} has {version.rows:,} passages: an exact search reads them all in a few "
                f"milliseconds and misses nothing. An index is built from {least_rows:,} passages on."
            ),
        }
    )


def index_plan(version: Stored, built: BuiltIndex, *, has_questions: bool) -> SearchPlan:
    """Return the plan that, once published, puts this index into service. `built`: complete and checked."""
    asked = "questions" if has_questions else "of its own passages, for there is no file of questions"
    return SearchPlan(
        {
            "dataset": version.dataset,
            "version": version.number,
            "passages": version.rows,
            "method": "index",
            "relation": built.relation,
            "links": built.links,
            "effort": built.effort,
            "recall": built.recall,
            "questions": built.questions,
            "sentence": (
                f"Version {version.number} has {version.rows:,} passages and is searched by an HNSW index that finds "
                f"{built.recall:.1%} of what an exact search finds, over {built.questions} {asked}."
            ),
        }
    )
