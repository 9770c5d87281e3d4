"""The tasks of the flows, with their retries and timeouts. What they compute is in `transforms`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pgvector import Vector
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff

from console.environment import environment
from console.faults import reach
from dataplane import versions
from dataplane.catalogue import DatasetEntry, HandbookParameters
from dataplane.contents.base import Content, Withheld
from dataplane.contents.passages import PassageContent, PassageRow
from dataplane.contracts import RefreshOutcome
from dataplane.embedding import Vectors, embed_changed, embedder
from dataplane.errors import DataplaneError, HandbookInvalid
from dataplane.flows.transforms import Document, embedded_text, parse_document, split_document
from dataplane.plain_sql import connect


async def can_retry_help(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Return whether trying again may help: a document with a mistake in it stays wrong."""
    try:
        await state.aresult()
    except DataplaneError as exc:
        return not exc.permanent
    except Exception:  # noqa: BLE001  whatever else it was, the retries are few and spaced
        return True
    return False


@task(
    retries=2,
    retry_delay_seconds=exponential_backoff(2),
    retry_condition_fn=can_retry_help,
    timeout_seconds=60,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def read_documents(folder: str) -> list[Document]:
    """Read every Markdown file below the handbook's folder, in order of their names.

    Raises HandbookInvalid when there is none, or one of them cannot be understood.
    """
    root = environment().handbook.expanduser().absolute()
    chosen = root / folder
    if not chosen.is_dir():
        raise HandbookInvalid(f"The handbook has no folder {folder!r}." if folder else f"There is no folder {root}.")
    files = sorted(path for path in chosen.rglob("*.md") if path.is_file())
    documents = []
    for path in files:
        documents.append(parse_document(path.relative_to(root).as_posix(), _text(path)))
        reach("flow.during_load")
    if not documents:
        raise HandbookInvalid(f"There is no Markdown file in {chosen}.")
    get_run_logger().info("Read %d documents from %s", len(documents), chosen)
    return documents


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise HandbookInvalid(f"{path.name} is not UTF-8 text: {exc.reason} at byte {exc.start}.") from exc


@task(timeout_seconds=60, cache_policy=NO_CACHE, persist_result=False)
def split(documents: list[Document], parameters: HandbookParameters) -> list[PassageRow]:
    """Cut the documents into passages."""
    rows = [
        row
        for document in documents
        for row in split_document(document, passage_characters=parameters.passage_characters)
    ]
    get_run_logger().info("Split %d documents into %d passages", len(documents), len(rows))
    return rows


@task(
    retries=2,
    retry_delay_seconds=exponential_backoff(2),
    timeout_seconds=120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def embed(dataset: str, rows: list[PassageRow]) -> PassageContent:
    """Give each passage its vector; those that the current version has already are not made again."""
    reach("flow.before_embed")
    model = embedder()
    known = earlier_vectors(dataset, model.name)
    vectors, made = embed_changed([embedded_text(row) for row in rows], known, model)
    content = PassageContent(passages=rows, vectors=vectors, embedder=model.name)
    get_run_logger().info(
        "Embedded %d of %d passages with %s, the others are unchanged; digest %s",
        made,
        len(rows),
        model.name,
        content.digest()[:12],
    )
    reach("flow.after_embed")
    return content


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


@task(
    retries=4,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    timeout_seconds=120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish(
    entry: DatasetEntry, content: Content, *, refresh_id: str, parameters: dict[str, Any], flow_run_id: str
) -> RefreshOutcome:
    """Publish the content in one transaction. On retry: `versions.publish` may be repeated at any point."""
    reach("flow.before_publish", refresh_id)
    outcome = versions.publish(entry, content, refresh_id=refresh_id, parameters=parameters, flow_run_id=flow_run_id)
    reach("flow.after_publish", refresh_id)
    get_run_logger().info(outcome.sentence)
    return outcome


@task(
    retries=4,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    timeout_seconds=120,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def withhold(entry: DatasetEntry, withheld: Withheld, *, refresh_id: str) -> RefreshOutcome:
    """End the refresh without a version. On retry: `versions.withhold` may be repeated at any point."""
    outcome = versions.withhold(entry, withheld, refresh_id=refresh_id)
    get_run_logger().info("Nothing is published. %s", outcome.sentence)
    return outcome
