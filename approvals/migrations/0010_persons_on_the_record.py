from __future__ import annotations

from django.db import migrations

# Which accounts are one person decides whether four eyes are four: recorded by whatever way it changes, as accounts are.
RECORD = r"""
CREATE FUNCTION signalbox_record_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' OR (TG_OP = 'UPDATE' AND OLD.user_id <> NEW.user_id) THEN
    PERFORM signalbox_record('person.unlinked', 'account:' || OLD.user_id, jsonb_build_object('person', OLD.person,
      'account', coalesce((SELECT username FROM auth_user WHERE id = OLD.user_id), '')));
  END IF;
  IF TG_OP <> 'DELETE' THEN
    PERFORM signalbox_record('person.linked', 'account:' || NEW.user_id, jsonb_build_object('person', NEW.person,
      'account', coalesce((SELECT username FROM auth_user WHERE id = NEW.user_id), '')));
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON approvals_accountperson FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_person();
CREATE TRIGGER recorded_in_order BEFORE DELETE ON approvals_accountperson FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
"""
FORGET = """
DROP TRIGGER recorded ON approvals_accountperson;
DROP TRIGGER recorded_in_order ON approvals_accountperson;
DROP FUNCTION signalbox_record_person();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('approvals', '0009_record_by_time'),
        ('console', '0003_accounts_on_the_record'),
    ]

    operations = [migrations.RunSQL(RECORD, FORGET)]
