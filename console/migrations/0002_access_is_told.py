from __future__ import annotations

from django.conf import settings
from django.db import migrations, models

# Whoever loses a right must lose open sockets at once, by whatever way the right is lost: a page, the admin, a command,
# a bulk update, SQL by hand. Django's signals know of the first two only, and the one for signing out comes before
# the session is gone. The database knows of all, and tells at commit, when whoever asks again sees the change.
# A session's key is a secret, so its digest is told.
TELL = """
CREATE FUNCTION signalbox_tell_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'django_session' THEN
    PERFORM pg_notify('signalbox_live', json_build_object('topic',
      'session:' || encode(sha256(convert_to(OLD.session_key, 'UTF8')), 'hex'))::text);
  ELSIF TG_TABLE_NAME = 'auth_user' THEN
    PERFORM pg_notify('signalbox_live', json_build_object('topic', 'user:' || OLD.id)::text);
  ELSIF TG_TABLE_NAME = 'auth_group' THEN
    PERFORM pg_notify('signalbox_live', json_build_object('topic', 'user:' || held.user_id)::text)
    FROM auth_user_groups AS held WHERE held.group_id = OLD.id;
  ELSIF TG_OP = 'INSERT' THEN
    PERFORM pg_notify('signalbox_live', json_build_object('topic', 'user:' || NEW.user_id)::text);
  ELSE
    PERFORM pg_notify('signalbox_live', json_build_object('topic', 'user:' || OLD.user_id)::text);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER access_of_user AFTER UPDATE ON auth_user FOR EACH ROW
  WHEN (OLD.is_active IS DISTINCT FROM NEW.is_active OR OLD.is_superuser IS DISTINCT FROM NEW.is_superuser
        OR OLD.password IS DISTINCT FROM NEW.password)
  EXECUTE FUNCTION signalbox_tell_access();
CREATE TRIGGER access_of_gone_user AFTER DELETE ON auth_user FOR EACH ROW EXECUTE FUNCTION signalbox_tell_access();
CREATE TRIGGER access_by_group AFTER INSERT OR UPDATE OR DELETE ON auth_user_groups FOR EACH ROW
  EXECUTE FUNCTION signalbox_tell_access();
CREATE TRIGGER access_of_group AFTER UPDATE ON auth_group FOR EACH ROW
  WHEN (OLD.name IS DISTINCT FROM NEW.name) EXECUTE FUNCTION signalbox_tell_access();
CREATE TRIGGER access_of_session AFTER DELETE ON django_session FOR EACH ROW
  WHEN (OLD.expire_date > now()) EXECUTE FUNCTION signalbox_tell_access();
"""
UNTELL = """
DROP TRIGGER access_of_session ON django_session;
DROP TRIGGER access_of_group ON auth_group;
DROP TRIGGER access_by_group ON auth_user_groups;
DROP TRIGGER access_of_gone_user ON auth_user;
DROP TRIGGER access_of_user ON auth_user;
DROP FUNCTION signalbox_tell_access();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('console', '0001_initial'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('sessions', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RunSQL(TELL, UNTELL),
        migrations.CreateModel(
            name='Presence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('topic', models.CharField(max_length=300)),
                ('socket', models.CharField(max_length=40)),
                ('backend_pid', models.IntegerField()),
                ('backend_started_at', models.DateTimeField()),
                ('user', models.ForeignKey(on_delete=models.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'indexes': [models.Index(fields=['topic'], name='presence_by_topic')],
                'constraints': [models.UniqueConstraint(fields=('socket', 'topic'), name='one_looker_per_socket')],
            },
        ),
        migrations.RunSQL("ALTER TABLE console_presence SET UNLOGGED", "ALTER TABLE console_presence SET LOGGED"),
    ]
