"""Where a turn under way is: a small row for each, told every second or two, and dropped when there is much to do.

Short turns never write one, and what is lost is told anew at the next change; a long step is told again every ten
seconds. The row of a turn is removed when its attempt ends; one that a killed worker left behind is not shown, for it
grows old or its run has moved on.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.db import connection, transaction

from console.clock import DatabaseNow
from console.live.announce import announce
from orchestration.models import Run, TurnProgress

SHOWN_FOR: Final = timedelta(seconds=30)  # without another word
WORDS_AT_MOST: Final = 600  # characters, the newest

_TELL = """
INSERT INTO orchestration_turnprogress (run_id, turn, fence, node, words, at)
SELECT id, %(turn)s, %(fence)s, %(node)s, %(words)s, signalbox_now() FROM orchestration_run
WHERE id = %(run_id)s AND fence = %(fence)s
ON CONFLICT (run_id) DO UPDATE SET turn = excluded.turn, fence = excluded.fence, node = excluded.node,
    words = excluded.words, at = excluded.at
WHERE orchestration_turnprogress.fence <= excluded.fence
"""


def tell(run_id: str, turn: int, fence: int, node: str, words: str) -> None:
    """Keep where the turn is and tell open pages. Nothing where a newer attempt has begun."""
    told: dict[str, str | int] = {
        "run_id": run_id,
        "turn": turn,
        "fence": fence,
        "node": node[:200],
        "words": words[-WORDS_AT_MOST:],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '2s'")  # a row that somebody holds is not worth a wait
        cursor.execute(_TELL, told)
        if cursor.rowcount:
            announce(f"progress:{run_id}")


def over(run_id: str, fence: int) -> None:
    """Forget it: the attempt has ended."""
    TurnProgress.objects.filter(pk=run_id, fence__lte=fence).delete()


def progress_of(run: Run) -> TurnProgress | None:
    """Return where the run's turn is, `None` when none is under way or nothing was heard lately. One query."""
    if run.status != Run.Status.RUNNING:
        return None
    rows = TurnProgress.objects.filter(pk=run.pk, turn=run.turn, fence=run.fence)
    return rows.filter(at__gt=DatabaseNow() - SHOWN_FOR).first()
