"""Django's settings. What may differ between installations is read in `console.environment`, nowhere else."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import structlog
from csp.constants import NONE, SELF

from console.callers import networks
from console.environment import PROJECT, environment

# LangGraph reads this when it is imported: a checkpoint must never import or call what it names.
os.environ["LANGGRAPH_STRICT_MSGPACK"] = "true"

ENVIRONMENT = environment()
BASE_DIR = PROJECT
DEBUG = ENVIRONMENT.debug


def _secret_key(home: Path) -> str:
    """Return the key from the environment, else the one kept in the state folder, made on first use."""
    if ENVIRONMENT.secret_key:
        return ENVIRONMENT.secret_key
    path = home / "secret-key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        # Written whole under another name first: a second process never reads half a key.
        descriptor, draft = tempfile.mkstemp(dir=home)  # mode 0600
        with open(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):  # another process was first: both read its key
            os.link(draft, path)
        os.unlink(draft)
    return path.read_text()


#: what the address says after its question mark, for libpq: sslmode=verify-full, sslrootcert=..., and so on
LIBPQ = dict(parse_qsl(urlsplit(ENVIRONMENT.database_url).query))


def _database(url: str) -> dict[str, object]:
    """Return Django's form of a postgresql:// address, with a pool per process."""
    parts = urlsplit(url or "postgresql://signalbox@127.0.0.1:5432/signalbox")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or 5432),
        # Under ASGI a persistent connection per thread leaks; the pool checks each one before handing it out.
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        # Away: a page says so after `timeout` seconds. Back: `reconnect_timeout` ends the pool's own ever longer
        # pauses (up to minutes), so that the next request tries at once.
        "OPTIONS": {
            "pool": {"min_size": 1, "max_size": 16, "timeout": 4, "reconnect_timeout": 2, "max_lifetime": 900},
            # A process that freezes inside a transaction keeps its locks, the audit chain's among them, and everybody
            # waits. PostgreSQL ends such a session; 10 s is above the one call that is made inside a transaction.
            # What is prepared is planned for any values, once: else each statement is planned five times over before.
            "options": "-c idle_in_transaction_session_timeout=10s -c plan_cache_mode=force_generic_plan",
            "prepare_threshold": 5,  # not `None`, so that `console.planned_once` may ask for it; Django never does
            **LIBPQ,
        },
        "TEST": {"NAME": unquote(parts.path.lstrip("/")) + "_test"},
    }


def _named(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


SECRET_KEY = _secret_key(ENVIRONMENT.home)
PUBLIC_URL = ENVIRONMENT.url.rstrip("/") or f"http://127.0.0.1:{ENVIRONMENT.port}"  # for links in mails
_public = urlsplit(PUBLIC_URL)
# Over https alone: cookies that no plain connection carries, and browsers told to stay with https.
IS_SECURE = _public.scheme == "https" if ENVIRONMENT.secure is None else ENVIRONMENT.secure
HSTS_SECONDS = ENVIRONMENT.hsts_seconds if IS_SECURE else 0
TRUSTED_PROXIES = networks(ENVIRONMENT.trusted_proxies)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")  # of trusted proxies alone, see console.callers
ALLOWED_HOSTS = _named(ENVIRONMENT.allowed_hosts)
CSRF_TRUSTED_ORIGINS = _named(ENVIRONMENT.origins)
if ENVIRONMENT.url:  # a proxy in front ends https: what it passes on looks like http
    ALLOWED_HOSTS.append(_public.hostname or "")
    CSRF_TRUSTED_ORIGINS.append(f"{_public.scheme}://{_public.netloc}")
DATABASES = {"default": _database(ENVIRONMENT.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "whitenoise.runserver_nostatic",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "channels",
    "csp",
    "django_htmx",
    "django_structlog",
    "ninja",
    "pgtrigger",
    "console",
    "stack",
    "approvals",
    "orchestration",
    "dataplane",
    "drills",
]

MIDDLEWARE = [
    "django_htmx.middleware.HtmxMiddleware",  # first, for each of those below may answer, and asks who wants to know
    "console.callers.believe_proxies",
    "console.middleware.forms_in_utf8",  # before whatever reads a form
    # What every answer carries, static files and errors too, so these stand outside of what makes answers.
    "console.middleware.hardened",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "console.devices.remembering",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "console.acting.acting",
    "console.forms.typed.remember_typist",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "console.middleware.no_store",
    "console.middleware.problems_for_programs",
    "console.middleware.errors_in_words",
]

ROOT_URLCONF = "console.urls"
ASGI_APPLICATION = "console.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.frame",
            ]
        },
    }
]

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
ACCOUNT_ADAPTER = "console.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
LOGIN_REDIRECT_URL = "/"
LOGIN_URL = "/accounts/login/"
ACCOUNT_RATE_LIMITS = False  # those count in one process; see console.tries
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 10}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
    )
]
# `__Host-`: a browser takes it over https alone, for this very host, and no other host can set it.
SESSION_COOKIE_NAME = "__Host-sessionid" if IS_SECURE else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if IS_SECURE else "csrftoken"
DEVICE_COOKIE_NAME = "__Host-device" if IS_SECURE else "signalbox_device"
SESSION_ENGINE = "console.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_SECURE
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # the page itself carries the token
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "console.views.csrf_failed"

LANGUAGE_CODE = "en-gb"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = ENVIRONMENT.home / "static"
# Made by the first web process of a release (`console.statics`); no collectstatic step.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "console.statics.NamedByContent"},
}
WHITENOISE_USE_FINDERS = True  # what was not made lies in the source
WHITENOISE_MAX_AGE = 300  # for names without a digest; those with one are kept for ever

# One strict policy for every page: no inline anything, nothing from elsewhere.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "manifest-src": [SELF],
        "worker-src": [SELF],
        "object-src": [NONE],
    }
}
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

_mail = urlsplit(ENVIRONMENT.email_url)
if ENVIRONMENT.email_url:
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT = _mail.hostname or "localhost", _mail.port or 587
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
    EMAIL_USE_TLS = EMAIL_PORT == 587
else:
    EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    EMAIL_FILE_PATH = ENVIRONMENT.email_folder or ENVIRONMENT.home / "mail"
DEFAULT_FROM_EMAIL = "Example shop <support@shop.example>"
NOTICES_FROM = ENVIRONMENT.email_from

# Tables that the app's own role may add to and read, nothing else; see `console.app_role`.
APPEND_ONLY_TABLES = [
    "approvals_auditevent",
    "approvals_comment",
    "approvals_decision",
    "approvals_proposalversion",
]
# Schemas in which the app's own role makes and drops tables: what can be made again from other tables at any time.
SCHEMAS_OF_THE_APP = ["signalbox_index"]
# Where the audit chain's head is written down, outside of what the database's owner can change.
AUDIT_HEADS_FILE = ENVIRONMENT.home / "audit-heads.jsonl"
AUDIT_HEAD_URL = ENVIRONMENT.audit_head_url

DJANGO_STRUCTLOG_USER_ID_FIELD = None  # asking for it costs two queries on every request, also without a page

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": "console.text.log_lines.VisibleFormatter",  # one record is one line, whatever its values hold
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "django_structlog": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
    },
}

# Log lines carry the request's id and user as key=value; a line below its logger's level costs nothing.
structlog.configure(
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
