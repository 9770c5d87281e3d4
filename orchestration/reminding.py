"""Send mails apart from what goes to Temporal: a slow mail system delays no decision."""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction

from approvals import reminders
from approvals.reminders import Mail
from console.backoff import Backoff
from console.clock import DatabaseNow, database_now
from console.models import OutboxEntry
from console.outbox import Kind
from orchestration import stuck_mails

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 10
LEASE: Final = timedelta(seconds=60)
PAUSES: Final = Backoff(60, 3600)
#: kind of outbox entry -> the mail for its payload, `None` when there is nothing to tell any more
MAILS: Final[dict[str, Callable[..., Mail | None]]] = {
    Kind.REMIND: reminders.mail_for,
    Kind.RUN_STUCK: stuck_mails.mail_for,
}


def send_next() -> bool:
    """Send the next reminder that is due; say whether there may be another one to send now.

    A relay that is killed meanwhile leaves it to the next, so a mail may come twice, with the same Message-ID. A mail
    system that does not take it is tried again after a minute, doubled each time to an hour, while the approval waits.
    """
    entry = _claimed()
    if entry is None:
        return False
    mail = MAILS[entry.kind](**entry.payload)
    if mail is not None:
        try:
            _send(mail, entry)
        except (OSError, smtplib.SMTPException) as exc:
            logger.warning("the reminder %s is not taken, tried again later: %s", entry.pk, exc)
            _change(entry, due_at=database_now() + PAUSES.delay(entry.attempts), last_error=str(exc)[:500])
            return False
    _change(entry, delivered_at=DatabaseNow(), last_error="" if mail else "There was nothing to tell any more.")
    return True


def fault() -> str:
    """Return why the newest of the reminders that wait was not taken, "" when none was refused."""
    refused = OutboxEntry.objects.filter(kind__in=MAILS, delivered_at=None).exclude(last_error="")
    return refused.order_by("-id").values_list("last_error", flat=True).first() or ""


def _claimed() -> OutboxEntry | None:
    with transaction.atomic():
        due = OutboxEntry.objects.filter(kind__in=MAILS, delivered_at=None, due_at__lte=DatabaseNow())
        entry = due.select_for_update(skip_locked=True).order_by("id").first()
        if entry is not None:
            entry.attempts += 1
            _change(entry, attempts=entry.attempts, due_at=database_now() + LEASE)
    return entry


def _change(entry: OutboxEntry, **changes: object) -> None:
    OutboxEntry.objects.filter(pk=entry.pk).update(**changes)


def _send(mail: Mail, entry: OutboxEntry) -> None:
    message = EmailMessage(
        mail.subject,
        mail.text,
        settings.NOTICES_FROM,
        [mail.to],
        connection=get_connection(timeout=TIMEOUT_SECONDS),
        headers={"Message-ID": f"<reminder-{entry.pk}@signalbox>", "Auto-Submitted": "auto-generated"},
    )
    message.send()
