"""What the current verdict model expects of open requests: computed here, in the process that serves flows.

By its plain numbers, so without scikit-learn. The console shows and sorts by what is written; nothing decides by it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

import psycopg

from dataplane.catalogue import VERDICT_MODEL
from dataplane.embedding import embedder
from dataplane.flows.verdicts import SeenProposal, VerdictNumbers
from dataplane.plain_sql import announce, connect

AT_ONCE = 200  # requests in one look
logger = logging.getLogger(__name__)


@dataclass
class Outlooks:
    """Looks again and again; keeps the numbers of the model that it read last. Two processes may look at once."""

    _id: int = 0  # of the version's row
    _numbers: VerdictNumbers | None = None
    _said: str = ""

    def look(self) -> int:
        """Write what is expected of requests that have no word of the current model yet; return of how many."""
        with connect() as connection:
            row = connection.execute(
                "SELECT v.id, v.version, v.embedder FROM dataplane_dataset d"
                " JOIN dataplane_datasetversion v ON v.id = d.current_version_id WHERE d.name = %s",
                [VERDICT_MODEL.name],
            ).fetchone()
            if row is None:
                return 0
            version_id, version, made_with = row
            numbers = self._read(connection, version_id)
            if numbers is None:
                return 0
            found = connection.execute(
                "SELECT * FROM signalbox_open_material(%s, %s, %s)", [version, list(numbers.layout.tools), AT_ONCE]
            ).fetchall()
            if not found:
                return 0
            if made_with != embedder().name:
                self._say(f"version {version} was made with {made_with}, so it can say nothing of open requests")
                return 0
            return self._write(connection, numbers, version, found)

    def _write(
        self,
        connection: psycopg.Connection[tuple[object, ...]],
        numbers: VerdictNumbers,
        version: int,
        found: list[tuple[str, int, str, str, str, str, str]],
    ) -> int:
        proposed = [
            SeenProposal.without_personal(
                tool=tool, risk=risk, summary=summary, agent_words=words, arguments=json.loads(canonical)["arguments"]
            )
            for _, _, tool, risk, summary, words, canonical in found
        ]
        chances = numbers.chances(proposed, embedder().embed([one.text for one in proposed]))
        with connection.transaction():
            for (approval_id, of_version, *_), chance in zip(found, chances, strict=True):
                connection.execute(
                    "SELECT signalbox_note_outlook(%s, %s, %s, %s)",
                    [approval_id, of_version, round(100 * float(chance)), version],
                )
            announce(connection)
        return len(found)

    def _read(self, connection: psycopg.Connection[tuple[object, ...]], version_id: int) -> VerdictNumbers | None:
        if version_id != self._id:
            row = connection.execute(
                "SELECT body::text FROM dataplane_record WHERE version_id = %s AND name = 'numbers'", [version_id]
            ).fetchone()
            self._id, self._numbers = version_id, None
            try:
                self._numbers = VerdictNumbers.from_json(json.loads(str(row[0]))) if row else None
            except (KeyError, TypeError, ValueError) as exc:
                self._say(f"the current verdict model cannot be read: {exc!r}")
        return self._numbers

    def _say(self, words: str) -> None:
        if words != self._said:  # once, not every few seconds
            logger.warning("verdict model: %s", words)
        self._said = words
