"""Every text of the corpus in a reminder: one line where one line belongs, and nothing that hides."""

from __future__ import annotations

from email import message_from_bytes, policy

from django.contrib.auth.models import User
from django.core.mail import EmailMessage

from approvals.services.reminders import mail_for

from .conftest import NAME_LENGTH, SUMMARY_LENGTH, USERNAME_LENGTH, Open, flat, hidden, not_shown
from .corpus import CORPUS, Hostile

LINES = 9  # of a harmless reminder


def on_one_line(hostile: Hostile) -> Hostile:
    """Return the text as it must look on one line."""
    return Hostile(hostile.name, hostile.text, tuple(map(flat, hostile.shows)), hostile.hides | {"\t"})


def test_a_reminder_shows_every_text_on_one_line(alice: User, open_hostile: Open) -> None:
    User.objects.filter(pk=alice.pk).update(email="alice@people.example")
    faults = []
    for hostile in map(on_one_line, CORPUS):
        User.objects.filter(pk=alice.pk).update(username=hostile.text.replace("\x00", "")[:USERNAME_LENGTH] or "alice")
        approval = open_hostile(hostile.text)
        mail = mail_for(approval_id=approval.pk, step="remind", user_id=alice.pk)
        assert mail is not None
        sent = EmailMessage(mail.subject, mail.text, "a@b.example", [mail.to]).message().as_bytes()
        read = message_from_bytes(sent, policy=policy.default)
        text = read.get_content()
        faults += hidden(hostile, read["Subject"] + text)
        faults += [f"{hostile.name} makes lines"] if len(text.splitlines()) != LINES else []
        if len(hostile.text) <= SUMMARY_LENGTH:
            faults += not_shown(hostile, text, 3 if 0 < len(hostile.text) <= NAME_LENGTH else 1)
    assert faults == []
