from __future__ import annotations

from django.db import migrations, models

# Who has which account, role, password and token decides who decides, so each change is an entry of the record. It can
# come by a page, the admin, a command, a shell or SQL by hand; only the database knows of all of them, so it writes
# the entry itself, in the transaction of the change. The bytes are those of `approvals.record.audit.canonical_entry`: PostgreSQL
# writes a JSON text as RFC 8785 does, and the keys are ASCII.
# Who did it is told by `console.acting` for the length of the transaction; else it is the database's role.
# A deletion takes the chain before it locks rows: whoever holds the chain may still have to look at those rows at commit.
RECORD = r"""
CREATE FUNCTION signalbox_canonical(value jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  CASE jsonb_typeof(value)
    WHEN 'object' THEN
      RETURN '{' || coalesce((SELECT string_agg(to_json(name)::text || ':' || signalbox_canonical(item), ','
                                                ORDER BY name COLLATE "C")
                              FROM jsonb_each(value) AS each_one(name, item)), '') || '}';
    WHEN 'array' THEN
      RETURN '[' || coalesce((SELECT string_agg(signalbox_canonical(item), ',' ORDER BY place)
                              FROM jsonb_array_elements(value) WITH ORDINALITY AS each_one(item, place)), '') || ']';
    ELSE
      RETURN value::text;
  END CASE;
END $$;

CREATE FUNCTION signalbox_record(its_kind text, about text, told jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  who text := left(coalesce(nullif(current_setting('signalbox.actor', true), ''), 'database:' || session_user), 150);
  moment timestamptz := signalbox_now();
  before text;
  entry text;
BEGIN
  PERFORM pg_advisory_xact_lock(7310001);
  SELECT digest INTO before FROM approvals_auditevent ORDER BY seq DESC LIMIT 1;
  before := coalesce(before, '');
  entry := signalbox_canonical(jsonb_build_object(
    'at', to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    'actor', who, 'kind', its_kind, 'subject', about, 'body', told, 'previous', before));
  INSERT INTO approvals_auditevent (at, actor, kind, subject, body, previous, digest)
  VALUES (moment, who, its_kind, about, told, before, encode(sha256(convert_to(entry, 'UTF8')), 'hex'));
END $$;

CREATE FUNCTION signalbox_hold_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(7310001);
  RETURN NULL;
END $$;

CREATE FUNCTION signalbox_has_password(password text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT password <> '' AND password NOT LIKE '!%'
$$;

CREATE FUNCTION signalbox_record_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  about text := 'account:' || coalesce(NEW.id, OLD.id);
  told jsonb := jsonb_build_object('account', coalesce(NEW.username, OLD.username));
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM signalbox_record('account.created', about, told || jsonb_build_object(
      'active', NEW.is_active, 'superuser', NEW.is_superuser, 'staff', NEW.is_staff, 'address', NEW.email,
      'password', signalbox_has_password(NEW.password)));
    RETURN NULL;
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM signalbox_record('account.deleted', about, told);
    RETURN NULL;
  END IF;
  IF OLD.id IS DISTINCT FROM NEW.id THEN
    PERFORM signalbox_record('account.moved', about, told || jsonb_build_object('before', 'account:' || OLD.id));
  END IF;
  IF OLD.username IS DISTINCT FROM NEW.username THEN
    PERFORM signalbox_record('account.renamed', about, told || jsonb_build_object('before', OLD.username));
  END IF;
  IF OLD.is_active IS DISTINCT FROM NEW.is_active THEN
    PERFORM signalbox_record('account.' || CASE WHEN NEW.is_active THEN 'activated' ELSE 'deactivated' END, about, told);
  END IF;
  IF OLD.is_superuser IS DISTINCT FROM NEW.is_superuser THEN
    PERFORM signalbox_record('account.superuser_' || CASE WHEN NEW.is_superuser THEN 'given' ELSE 'taken' END, about, told);
  END IF;
  IF OLD.is_staff IS DISTINCT FROM NEW.is_staff THEN
    PERFORM signalbox_record('account.staff_' || CASE WHEN NEW.is_staff THEN 'given' ELSE 'taken' END, about, told);
  END IF;
  IF OLD.email IS DISTINCT FROM NEW.email THEN
    PERFORM signalbox_record('account.address_changed', about,
                             told || jsonb_build_object('before', OLD.email, 'after', NEW.email));
  END IF;
  IF (OLD.first_name, OLD.last_name) IS DISTINCT FROM (NEW.first_name, NEW.last_name) THEN
    PERFORM signalbox_record('account.name_changed', about, told || jsonb_build_object(
      'before', concat_ws(' ', OLD.first_name, OLD.last_name), 'after', concat_ws(' ', NEW.first_name, NEW.last_name)));
  END IF;
  IF OLD.password IS DISTINCT FROM NEW.password THEN
    PERFORM signalbox_record('account.password_' || CASE
      WHEN NOT signalbox_has_password(NEW.password) THEN 'removed'
      WHEN signalbox_has_password(OLD.password) THEN 'changed' ELSE 'set' END, about, told);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION signalbox_record_membership() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  what text;
BEGIN
  IF TG_OP <> 'INSERT' THEN
    what := CASE WHEN TG_TABLE_NAME = 'auth_user_groups'
      THEN (SELECT name FROM auth_group WHERE id = (to_jsonb(OLD) ->> 'group_id')::bigint)
      ELSE (SELECT codename FROM auth_permission WHERE id = (to_jsonb(OLD) ->> 'permission_id')::bigint) END;
    PERFORM signalbox_record(
      CASE WHEN TG_TABLE_NAME = 'auth_user_groups' THEN 'account.role_taken' ELSE 'account.permission_taken' END,
      'account:' || OLD.user_id, jsonb_build_object(
        'account', coalesce((SELECT username FROM auth_user WHERE id = OLD.user_id), ''),
        CASE WHEN TG_TABLE_NAME = 'auth_user_groups' THEN 'role' ELSE 'permission' END, coalesce(what, '')));
  END IF;
  IF TG_OP <> 'DELETE' THEN
    what := CASE WHEN TG_TABLE_NAME = 'auth_user_groups'
      THEN (SELECT name FROM auth_group WHERE id = (to_jsonb(NEW) ->> 'group_id')::bigint)
      ELSE (SELECT codename FROM auth_permission WHERE id = (to_jsonb(NEW) ->> 'permission_id')::bigint) END;
    PERFORM signalbox_record(
      CASE WHEN TG_TABLE_NAME = 'auth_user_groups' THEN 'account.role_given' ELSE 'account.permission_given' END,
      'account:' || NEW.user_id, jsonb_build_object(
        'account', coalesce((SELECT username FROM auth_user WHERE id = NEW.user_id), ''),
        CASE WHEN TG_TABLE_NAME = 'auth_user_groups' THEN 'role' ELSE 'permission' END, coalesce(what, '')));
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION signalbox_record_group() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM signalbox_record('role.created', 'role:' || NEW.id, jsonb_build_object('role', NEW.name));
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM signalbox_record('role.deleted', 'role:' || OLD.id, jsonb_build_object('role', OLD.name));
  ELSE
    PERFORM signalbox_record('role.renamed', 'role:' || NEW.id,
                             jsonb_build_object('role', NEW.name, 'before', OLD.name));
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION signalbox_record_token() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  about text := 'account:' || coalesce(NEW.owner_id, OLD.owner_id);
  told jsonb := jsonb_build_object('token', coalesce(NEW.id, OLD.id), 'label', coalesce(NEW.label, OLD.label), 'account',
    coalesce((SELECT username FROM auth_user WHERE id = coalesce(NEW.owner_id, OLD.owner_id)), ''));
BEGIN
  IF TG_OP = 'INSERT' THEN
    PERFORM signalbox_record('token.created', about, told);
    RETURN NULL;
  ELSIF TG_OP = 'DELETE' THEN
    PERFORM signalbox_record('token.deleted', about, told);
    RETURN NULL;
  END IF;
  IF OLD.owner_id IS DISTINCT FROM NEW.owner_id THEN
    PERFORM signalbox_record('token.moved', about, told || jsonb_build_object('before', 'account:' || OLD.owner_id));
  END IF;
  IF OLD.digest IS DISTINCT FROM NEW.digest THEN
    PERFORM signalbox_record('token.changed', about, told);
  END IF;
  IF (OLD.revoked_at IS NULL) IS DISTINCT FROM (NEW.revoked_at IS NULL) THEN
    PERFORM signalbox_record('token.' || CASE WHEN NEW.revoked_at IS NULL THEN 'restored' ELSE 'revoked' END, about, told);
  END IF;
  IF OLD.first_used_at IS NULL AND NEW.first_used_at IS NOT NULL THEN
    PERFORM signalbox_record('token.first_used', about, told || jsonb_build_object('from', NEW.first_used_from));
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON auth_user FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_user();
CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON auth_user_groups FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_membership();
CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON auth_user_user_permissions FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_membership();
CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON auth_group FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_group();
CREATE TRIGGER recorded AFTER INSERT OR UPDATE OR DELETE ON console_apitoken FOR EACH ROW
  EXECUTE FUNCTION signalbox_record_token();
CREATE TRIGGER recorded_in_order BEFORE DELETE OR UPDATE OF id, username ON auth_user FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
CREATE TRIGGER recorded_in_order BEFORE DELETE ON auth_user_groups FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
CREATE TRIGGER recorded_in_order BEFORE DELETE ON auth_user_user_permissions FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
CREATE TRIGGER recorded_in_order BEFORE DELETE OR UPDATE OF id, name ON auth_group FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
CREATE TRIGGER recorded_in_order BEFORE DELETE ON console_apitoken FOR EACH STATEMENT
  EXECUTE FUNCTION signalbox_hold_record();
"""
TABLES = ("auth_user", "auth_user_groups", "auth_user_user_permissions", "auth_group", "console_apitoken")
FORGET = (
    "".join(f"DROP TRIGGER recorded ON {table}; DROP TRIGGER recorded_in_order ON {table};" for table in TABLES)
    + """
DROP FUNCTION signalbox_record_token();
DROP FUNCTION signalbox_record_group();
DROP FUNCTION signalbox_record_membership();
DROP FUNCTION signalbox_record_user();
DROP FUNCTION signalbox_has_password(text);
DROP FUNCTION signalbox_hold_record();
DROP FUNCTION signalbox_record(text, text, jsonb);
DROP FUNCTION signalbox_canonical(jsonb);
"""
)


class Migration(migrations.Migration):

    dependencies = [
        ('console', '0002_access_is_told'),
    ]

    operations = [
        migrations.AddField(
            model_name='apitoken',
            name='first_used_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='apitoken',
            name='first_used_from',
            field=models.CharField(blank=True, db_default='', default='', max_length=45),
        ),
        migrations.RunSQL(RECORD, FORGET),
    ]
