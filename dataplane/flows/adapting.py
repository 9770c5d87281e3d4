"""The tasks of the flow that trains the retrieval adapter. What they compute is in `adapter`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pgvector import Vector
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from console.environment import environment
from dataplane.contents.base import Stored, Withheld
from dataplane.contents.trained import TrainedModel
from dataplane.embedding import embedder_named
from dataplane.flows import adapter
from dataplane.flows.adapter import Learned, Searched
from dataplane.flows.attempts import computes, reads
from dataplane.flows.cards import adapter_card
from dataplane.plain_sql import connect
from dataplane.questions import Question, read_questions
from dataplane.search_figures import keep, row_of


@dataclass(frozen=True)
class Pairs:
    """The handbook's questions, and the passages of one version that they are asked of."""

    version: Stored
    questions: Sequence[Question]
    searched: Searched


@reads(timeout_seconds=120)
def read_pairs(dataset: str) -> Pairs | Withheld:
    """Read the questions and the current version's passages; Withheld when there is too little to learn from."""
    return pairs_of(dataset)


def pairs_of(dataset: str) -> Pairs | Withheld:
    """See `read_pairs`. Raises HandbookInvalid when the questions cannot be read."""
    questions = read_questions(environment().handbook)
    with connect() as connection:
        rows = connection.execute(
            "SELECT v.id, v.dataset_id, v.version, v.rows, v.embedder, p.document, p.heading, p.embedding"
            " FROM dataplane_dataset d JOIN dataplane_datasetversion v ON v.id = d.current_version_id"
            " JOIN dataplane_passage p ON p.version_id = v.id WHERE d.name = %s ORDER BY p.position",
            [dataset],
            binary=True,
        ).fetchall()
    if not rows:
        return Withheld(f"The dataset {dataset} has no version yet, so there is nothing to search.")
    vectors = np.array([Vector.from_binary(row[7]).to_numpy() for row in rows], dtype=np.float32)
    searched = Searched.of([(row[5], row[6]) for row in rows], vectors)
    found = adapter.usable(questions, searched)
    if len(found) < adapter.LEAST:
        return Withheld(
            f"There are {len(found)} questions whose passages are in version {rows[0][2]} of {dataset}; to learn from "
            f"and to judge by, {adapter.LEAST} are the least."
        )
    return Pairs(Stored(*rows[0][:5]), questions, searched)


@computes(timeout_seconds=300)
def adapted(found: Pairs) -> TrainedModel | Withheld:
    """Learn, judge on questions held out, and show both; Withheld where search finds as much without it.

    Its figures are kept beside the version that was searched, published or not. On retry: they are replaced.
    """
    learned = learned_from(found)
    why_not = adapter.why_not(learned)
    made = model_of(found, learned)
    create_table_artifact(
        key="recall-at-5",
        table=[row_of(learned.without), row_of(learned.with_it)],
        description=f"Each of {len(found.questions)} questions is answered by an adapter that has not seen it.",
    )
    create_markdown_artifact(key="adapter-card", markdown=made.card, description=why_not or "Of what is published.")
    return Withheld(why_not) if why_not else made


def learned_from(found: Pairs) -> Learned:
    """Return the adapter, and keep its figures for the page of the version's search. Raises EmbedderChanged."""
    version = found.version
    model = embedder_named(version.embedder, whose=f"Version {version.number} of {version.dataset}")
    learned = adapter.learn(found.questions, model.embed([one.ask for one in found.questions]), found.searched)
    with connect() as connection, connection.cursor() as cursor:
        keep(cursor, version.id, learned.without)
        keep(cursor, version.id, learned.with_it)
    return learned


def model_of(found: Pairs, learned: Learned) -> TrainedModel:
    """Return the adapter as a version holds it; the same questions and passages make the same one."""
    rounded = np.round(learned.matrix, 6)
    return TrainedModel(
        card=adapter_card(
            dataset=found.version.dataset,
            version=found.version.number,
            embedder=found.version.embedder,
            learned=learned,
        ),
        scores={
            "recall_at_5": round(learned.with_it.recall, 6),
            "recall_at_5_without": round(learned.without.recall, 6),
            "mean_reciprocal_rank": round(learned.with_it.mean_reciprocal_rank, 6),
            "mean_reciprocal_rank_without": round(learned.without.mean_reciprocal_rank, 6),
            "held_out_questions": learned.with_it.questions,
        },
        calibration=[],
        numbers={"shape": list(rounded.shape), "sha256": hashlib.sha256(rounded.tobytes()).hexdigest()},
        file=adapter.kept(rounded),
        inputs=[{"dataset": found.version.dataset, "version": found.version.number}],
        embedder=found.version.embedder,
    )
