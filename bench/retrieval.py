"""How well the shipped handbook answers its questions: recall@5 for exact search, the HNSW index, and the adapter.

    .venv/bin/python -m bench.retrieval [--record]

The passages, vectors and index are made as the flows make them, on an embedded PostgreSQL of its own. The questions
stand in `examples/handbook/questions.toml`. The adapter is trained as the flow `train_retrieval_adapter` does, and
answers questions that it has not seen. `--record` keeps the figures for docs/data.md.
"""

from __future__ import annotations

import argparse
import sys

from bench.database import empty_database
from docs import measuring

FLOW_RUN = "00000000-0000-4000-8000-00000000bec4"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="keep the figures in docs/measured/")
    options = parser.parse_args()
    with empty_database():
        rows, notes = measured()
    columns = ["search", "recall@5", "found", "mean reciprocal rank"]
    sys.stdout.write("\n".join(" | ".join(row) for row in [columns, *rows]) + "\n" + "\n".join(notes) + "\n")
    if options.record:
        measuring.record("bench", "retrieval", "python -m bench.retrieval", columns=columns, rows=rows, notes=notes)


def measured() -> tuple[list[list[str]], list[str]]:
    from console.environment import environment
    from dataplane import versions
    from dataplane.catalogue import HANDBOOK, HANDBOOK_INDEX, DatasetEntry, IndexParameters
    from dataplane.contents.base import Content, Withheld
    from dataplane.contents.passages import PassageContent
    from dataplane.contracts import RefreshOrder
    from dataplane.embedding import embedder
    from dataplane.flows import adapter, adapting
    from dataplane.flows.indexing import planned
    from dataplane.flows.tasks import readable
    from dataplane.flows.transforms import embedded_text, split_document
    from dataplane.questions import read_questions
    from dataplane.refreshes.claim import claim
    from dataplane.search_figures import row_of

    folder = environment().handbook
    documents, _ = readable(folder, sorted(folder.rglob("*.md")))
    passages = [row for one in documents for row in split_document(one, passage_characters=1600)]
    model = embedder()
    vectors = model.embed([embedded_text(row) for row in passages])
    questions = read_questions(folder)

    def publish(entry: DatasetEntry, content: Content) -> None:
        with claim(entry, RefreshOrder(entry.name, "bench"), flow_run_id=FLOW_RUN) as claimed:
            versions.publish(entry, content, refresh_id=claimed.refresh_id, parameters={}, flow_run_id=FLOW_RUN)

    publish(HANDBOOK, PassageContent(passages, vectors, model.name))
    plan, figures = planned("handbook", IndexParameters(least_rows=1), questions, flow_run_id=FLOW_RUN)
    publish(HANDBOOK_INDEX, plan)
    found = adapting.pairs_of(HANDBOOK.name)
    if isinstance(found, Withheld):
        raise SystemExit(found.sentence)
    learned = adapting.learned_from(found)
    rows = [list(one.values()) for one in (*figures, row_of(learned.with_it))]
    told = f"{len(passages)} passages of {len(documents)} documents, {len(questions)} questions, {model.name}."
    index = f"{told} The index finds {plan.body['recall']:.1%} of what an exact search finds."
    return rows, [index, adapter.why_not(learned) or "The adapter is published."]


if __name__ == "__main__":
    main()
