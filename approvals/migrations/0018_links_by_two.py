from __future__ import annotations

import console.clock
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# Accounts with the same address are one person, so a new address would take them apart by one person's hand. Before it
# does, they are linked; from then on only two people can part them. BEFORE, row by row: it sees the others as they were.
KEEP = r"""
CREATE FUNCTION signalbox_keep_person() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  was_with bigint[];
BEGIN
  SELECT array_agg(account.id) INTO was_with FROM auth_user account
    WHERE lower(account.email) = lower(OLD.email)
      AND NOT EXISTS (SELECT 1 FROM approvals_accountperson link WHERE link.user_id = account.id);
  IF OLD.id = ANY (was_with) AND cardinality(was_with) > 1 THEN
    INSERT INTO approvals_accountperson (user_id, person)
      SELECT one, left('mail:' || lower(OLD.email), 150) FROM unnest(was_with) AS one;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER one_person_stays BEFORE UPDATE OF email ON auth_user FOR EACH ROW
  WHEN (OLD.email <> '' AND lower(OLD.email) <> lower(NEW.email)) EXECUTE FUNCTION signalbox_keep_person();
"""
PART = """
DROP TRIGGER one_person_stays ON auth_user;
DROP FUNCTION signalbox_keep_person();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('approvals', '0017_what_people_decided'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='LinkChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('person', models.CharField(blank=True, max_length=150)),
                ('reason', models.CharField(max_length=300)),
                ('made_at', models.DateTimeField(db_default=console.clock.DatabaseNow())),
                ('settled_at', models.DateTimeField(blank=True, null=True)),
                ('is_confirmed', models.BooleanField(db_default=False, default=False)),
                ('made_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('settled_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'change of a link',
                'verbose_name_plural': 'changes of links',
            },
        ),
        migrations.RunSQL(KEEP, PART),
    ]
