"""Measuring how well a published version answers the handbook's questions, when somebody asks for it."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection, transaction

from console import ports
from console.environment import environment
from console.live.announce import announce
from console.roles import may
from dataplane import search_quality
from dataplane.contents.passages import PASSAGES
from dataplane.errors import QuestionInvalid
from dataplane.models import DatasetVersion
from dataplane.questions import FILE, read_questions
from dataplane.search_figures import SearchFigures, keep


def measure(version: DatasetVersion, *, user: User | None) -> list[SearchFigures]:
    """Ask the version every question, exactly and by its index where one is in service; keep and return the figures.

    The same again replaces them. `user`: None stands for somebody at the terminal.
    Raises PermissionDenied, QuestionInvalid when there are no questions, HandbookInvalid, EmbedderChanged.
    """
    if user is not None and not may(user, "refresh"):
        raise PermissionDenied("Only an admin may measure a version's search.")
    if version.kind != PASSAGES.name:
        raise QuestionInvalid(f"Version {version.version} holds {version.kind}, which are not searched.")
    questions = read_questions(environment().handbook)
    if not questions:
        raise QuestionInvalid(f"There are no questions: write {FILE} into the handbook's folder, see docs/data.md.")
    with transaction.atomic(), connection.cursor() as cursor:
        done = [search_quality.measure(cursor, version.stored, questions, exactly=True)]
        if version.search_indexes.filter(state="serving").exists():
            done.append(search_quality.measure(cursor, version.stored, questions))
        for figures in done:
            keep(cursor, version.pk, figures)
        announce("data")
        if user is not None:
            ports.record().record(
                actor=user.get_username(),
                kind="dataset.search_measured",
                subject=version.dataset_id,
                body={"version": version.version, "found": {one.method: one.found for one in done}},
            )
    return done
