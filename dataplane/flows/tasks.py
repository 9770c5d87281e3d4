"""The tasks of the flows, with their retries and timeouts. What they compute is in `transforms`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pgvector import Vector
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from console.environment import environment
from console.faults import reach
from dataplane import versions
from dataplane.catalogue import DatasetEntry, HandbookParameters
from dataplane.contents.base import Content, Withheld
from dataplane.contents.passages import PassageContent, PassageRow, passage_name
from dataplane.contracts import RefreshOutcome
from dataplane.embedding import Embedder, Vectors, embed_changed, embedder
from dataplane.errors import HandbookInvalid
from dataplane.flows.attempts import computes, ends, reads
from dataplane.flows.transforms import MOST_BYTES, Document, embedded_text, parse_document, split_document
from dataplane.plain_sql import connect
from dataplane.questions import Question, read_questions
from dataplane.search_figures import FIRST, SearchFigures, figures_of

FAULTS_SHOWN = 100  # in a table on the flow run's page


@reads(timeout_seconds=60)
def read_documents(folder: str) -> list[Document]:
    """Read every Markdown file below the handbook's folder, in order of their names.

    Raises HandbookInvalid when there is none, or some cannot be understood; each of these is shown in a table.
    On retry, after a disk that did not answer: all of them are read anew.
    """
    root = environment().handbook.expanduser().absolute()
    chosen = root / folder
    if not chosen.is_dir():
        raise HandbookInvalid(f"The handbook has no folder {folder!r}." if folder else f"There is no folder {root}.")
    documents, faults = readable(root, sorted(path for path in chosen.rglob("*.md") if path.is_file()))
    if faults:
        create_table_artifact(
            key="documents-that-failed",
            table=[{"document": name, "what is wrong": words} for name, words in faults[:FAULTS_SHOWN]],
            description=f"{len(faults)} documents cannot be read, so no version was published.",
        )
        more = f" {len(faults) - 1} more cannot be read either: see the flow run." if len(faults) > 1 else ""
        raise HandbookInvalid(f"{faults[0][1]}{more}")
    if not documents:
        raise HandbookInvalid(f"There is no Markdown file in {chosen}.")
    get_run_logger().info("Read %d documents from %s", len(documents), chosen)
    return documents


def readable(root: Path, files: Sequence[Path]) -> tuple[list[Document], list[tuple[str, str]]]:
    """Return the documents that can be understood, and of the others name and sentence."""
    documents, faults = [], []
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            documents.append(parse_document(name, _text(path)))
        except HandbookInvalid as exc:
            faults.append((name, str(exc)))
        reach("flow.during_load")
    return documents, faults


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise HandbookInvalid(f"{path.name} has {size:,} bytes; a document has {MOST_BYTES:,} at most. Divide it.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise HandbookInvalid(f"{path.name} is not UTF-8 text: {exc.reason} at byte {exc.start}.") from exc
    except OSError as exc:
        raise HandbookInvalid(f"{path.name} cannot be read: {exc.strerror or exc}.") from exc


@computes(timeout_seconds=60)
def split(documents: list[Document], parameters: HandbookParameters) -> list[PassageRow]:
    """Cut the documents into passages."""
    rows = [
        row
        for document in documents
        for row in split_document(document, passage_characters=parameters.passage_characters)
    ]
    get_run_logger().info("Split %d documents into %d passages", len(documents), len(rows))
    flagged = [(row, flags) for row in rows if (flags := row.flags)]
    if flagged:
        create_table_artifact(
            key="passages-to-look-at",
            table=[
                {"passage": passage_name(row.document, row.heading), "why": ", ".join(flags)}
                for row, flags in flagged[:FAULTS_SHOWN]
            ],
            description=f"{len(flagged)} passages are published as they are, and should be looked at by a person.",
        )
        get_run_logger().warning("%d passages should be looked at: they hide text or speak to a model", len(flagged))
    return rows


@reads(timeout_seconds=120)
def embed(dataset: str, rows: list[PassageRow], *, with_questions: bool = True) -> PassageContent:
    """Give each passage its vector; those that the current version has already are not made again.

    `with_questions`: measure an exact search with the handbook's questions, where there are any.
    Raises EmbedderInvalid, EmbedderAway. On retry: what the attempt before had embedded is embedded again.
    """
    reach("flow.before_embed")
    model = embedder()
    known = earlier_vectors(dataset, model.name)
    vectors, made = embed_changed([embedded_text(row) for row in rows], known, model)
    questions = _questions() if with_questions else []
    figures = exact_figures(questions, rows, vectors, model) if questions else None
    content = PassageContent(passages=rows, vectors=vectors, embedder=model.name, figures=figures)
    get_run_logger().info(
        "Embedded %d of %d passages with %s, the others are unchanged; digest %s",
        made,
        len(rows),
        model.name,
        content.digest()[:12],
    )
    reach("flow.after_embed")
    return content


def _questions() -> list[Question]:
    """Return the handbook's questions; none, and a warning, when their file is wrong: policies matter more."""
    try:
        return read_questions(environment().handbook)
    except HandbookInvalid as exc:
        get_run_logger().warning("Search is not measured: %s", exc)
        return []


def exact_figures(
    questions: list[Question], rows: list[PassageRow], vectors: Vectors, model: Embedder
) -> SearchFigures:
    """Return how well an exact search of these passages answers the questions; as `search_quality.measure` would."""
    asked = model.embed([one.ask for one in questions])
    nearest = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :FIRST]
    answers = [[passage_name(rows[place].document, rows[place].heading) for place in places] for places in nearest]
    return figures_of("exact", questions, answers)


def earlier_vectors(dataset: str, embedder_name: str) -> dict[str, Vectors]:
    """Return the vectors of the dataset's current version by the text that each was made of.

    Empty before the first version, and when another model made it. About 1 kB a passage.
    """
    with connect() as connection:
        rows = connection.execute(
            "SELECT p.document, p.title, p.heading, p.text, p.effective, p.status, p.topics, p.embedding"
            " FROM dataplane_dataset d JOIN dataplane_datasetversion v ON v.id = d.current_version_id"
            " JOIN dataplane_passage p ON p.version_id = v.id WHERE d.name = %s AND v.embedder = %s",
            [dataset, embedder_name],
            binary=True,
        ).fetchall()
    return {embedded_text(PassageRow(*row[:7])): Vector.from_binary(row[7]).to_numpy() for row in rows}


@ends()
def publish(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> RefreshOutcome:
    """Publish the content in one transaction. On retry: `versions.publish` may be repeated at any point."""
    reach("flow.before_publish", refresh_id)
    outcome = versions.publish(entry, content, refresh_id=refresh_id, parameters=parameters, flow_run_id=flow_run_id)
    reach("flow.after_publish", refresh_id)
    get_run_logger().info(outcome.sentence)
    return outcome


@ends()
def withhold(entry: DatasetEntry, withheld: Withheld, *, refresh_id: str) -> RefreshOutcome:
    """End the refresh without a version. On retry: `versions.withhold` may be repeated at any point."""
    outcome = versions.withhold(entry, withheld, refresh_id=refresh_id)
    get_run_logger().info("Nothing is published. %s", outcome.sentence)
    return outcome


@ends()
def compare(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> RefreshOutcome:
    """End a dry run: keep what publishing the content would change, and publish nothing. On retry: safe to repeat."""
    outcome = versions.compare(entry, content, refresh_id=refresh_id, parameters=parameters, flow_run_id=flow_run_id)
    get_run_logger().info(outcome.sentence)
    return outcome
