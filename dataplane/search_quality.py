"""How well a version answers questions whose right passage is known: recall at 5, and where in the list it stands.

Works with a cursor of psycopg's or of Django's; flows, pages and commands measure by the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence

from dataplane.contents.base import Cursor, Stored
from dataplane.contents.passages import PASSAGES, passage_name
from dataplane.embedding import embedder_named
from dataplane.questions import Question
from dataplane.search_figures import FIRST, SearchFigures, figures_of


def measure(
    cursor: Cursor, version: Stored, questions: Sequence[Question], *, exactly: bool = False, index: str = ""
) -> SearchFigures:
    """Ask the version every question. `index`: by this one, though it is not yet in service.

    Else by the index in service, if there is one and `exactly` is not set. Raises EmbedderChanged.
    """
    model = embedder_named(version.embedder, whose=f"Version {version.number} of {version.dataset}")
    answers, by_index = [], bool(index)
    for vector in model.embed([one.ask for one in questions]):
        found = PASSAGES.nearest(cursor, version, vector, limit=FIRST, exactly=exactly, index=index)
        by_index = by_index or found.by_index
        answers.append([passage_name(hit.document, hit.heading) for hit in found.hits])
    return figures_of("index" if by_index else "exact", questions, answers)
