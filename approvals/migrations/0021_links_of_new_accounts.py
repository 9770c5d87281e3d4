from __future__ import annotations

from django.db import migrations

# Accounts with the same address are one person; once one of them is linked, its link says which. A new account, or one
# that gets the address later, takes that link: else whoever makes accounts would make a second person of somebody.
TAKE = r"""
CREATE FUNCTION signalbox_take_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO approvals_accountperson (user_id, person)
    SELECT NEW.id, link.person
    FROM approvals_accountperson link JOIN auth_user account ON account.id = link.user_id
    WHERE lower(account.email) = lower(NEW.email) AND account.id <> NEW.id
    ORDER BY account.id LIMIT 1
  ON CONFLICT (user_id) DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER takes_person AFTER INSERT ON auth_user FOR EACH ROW
  WHEN (NEW.email <> '') EXECUTE FUNCTION signalbox_take_person();
CREATE TRIGGER takes_person_later AFTER UPDATE OF email ON auth_user FOR EACH ROW
  WHEN (NEW.email <> '' AND lower(OLD.email) <> lower(NEW.email)) EXECUTE FUNCTION signalbox_take_person();
"""
LEAVE = """
DROP TRIGGER takes_person ON auth_user;
DROP TRIGGER takes_person_later ON auth_user;
DROP FUNCTION signalbox_take_person();
"""

# Those of before; but for whom two people have parted from the others.
TAKE_NOW = """
INSERT INTO approvals_accountperson (user_id, person)
  SELECT DISTINCT ON (account.id) account.id, link.person
  FROM auth_user account
  JOIN auth_user linked ON lower(linked.email) = lower(account.email) AND linked.id <> account.id
  JOIN approvals_accountperson link ON link.user_id = linked.id
  WHERE account.email <> ''
    AND NOT EXISTS (SELECT 1 FROM approvals_accountperson own WHERE own.user_id = account.id)
    AND NOT EXISTS (SELECT 1 FROM approvals_linkchange wish WHERE wish.user_id = account.id AND wish.is_confirmed)
  ORDER BY account.id, linked.id;
"""


class Migration(migrations.Migration):

    dependencies = [('approvals', '0020_words_by_the_index')]

    operations = [migrations.RunSQL(TAKE, LEAVE), migrations.RunSQL(TAKE_NOW, migrations.RunSQL.noop)]
