"""Django settings. What belongs to the deployment comes from the environment (README, "Settings"); what an
operator edits while it runs (models, prices, limits) is in the database; nothing is in both."""

from datetime import timedelta

import django_stubs_ext
from csp import constants as csp
from django.core.exceptions import ImproperlyConfigured
from environs import EnvValidationError, validate

from config import logs, production
from config.addresses import KINDS
from config.env import BASE_DIR, check_networks, check_readers, database, email, env, kept_secret, storage

django_stubs_ext.monkeypatch()  # so that generic classes such as ModelAdmin[Row] exist at run time

DATA_DIR = env.path("DATA_DIR", BASE_DIR / "var").resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)

_given_key, _kept_key = env.str("SECRET_KEY", "").strip(), DATA_DIR / "secret_key"
SECRET_KEY = _given_key or kept_secret(_kept_key)
DEBUG = env.bool("DEBUG", False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"], subcast=str.strip)
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [], subcast=str.strip)
LOG_LEVEL = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
LOG_FORMAT = env.str("LOG_FORMAT", logs.AUTO, validate=validate.OneOf(logs.FORMATS))

INSTALLED_APPS = [
    "config.apps.DeskAdminConfig",  # django.contrib.admin
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_rq",
    "django_filters",
    "django_htmx",
    "axes",
    "csp",
    "config",
    "billing_app",
    "files_app",
    "batches_app",
]
MIDDLEWARE = [
    "config.middleware.request_id",
    "config.access_log.access_log",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.https_only",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.ContentSecurity",
    "config.middleware.no_store",
    "config.middleware.Sessions",
    "config.middleware.Language",
    "config.middleware.Common",
    "config.middleware.Csrf",
    "config.middleware.Authentication",
    "config.middleware.Messages",
    "config.middleware.Framing",
    "config.middleware.Htmx",
    "config.middleware.time_zone",
    "config.middleware.wrong_method",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
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
                "config.console.nav.console",
            ],
        },
    },
]

# What is stored where
DATABASE_URL = env.str("DATABASE_URL", "")
DATABASES = {"default": database(DATABASE_URL, DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STORAGES = {
    "default": storage(env.str("STORAGE_URL", ""), DATA_DIR / "blobs"),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# On the same file system as the blobs, so that a finished upload is moved, not copied.
FILE_UPLOAD_TEMP_DIR = DATA_DIR / "incoming"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True, mode=0o700)
FILE_UPLOAD_HANDLERS = ["files_app.uploads.BlobUploadHandler"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # bytes of a request body that is not a file
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)  # whitenoise warns of a folder that is missing

# The doorbell
REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0")
RQ_QUEUES = {
    # Short jobs have a queue and workers of their own, so that lanes cannot starve them.
    name: {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer", "DEFAULT_TIMEOUT": -1}
    for name in ("control", "lanes")
}
RQ = {"WORKER_CLASS": "batches_app.queue.Worker"}
# Its dashboard would be in the admin by itself, and let any staff user, whatever he may do, empty a queue.
RQ_SHOW_ADMIN_LINK = False

# Who may come in
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("MinimumLength", "CommonPassword", "NumericPassword", "UserAttributeSimilarity")
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
LOGIN_URL = "console:login"
LOGIN_REDIRECT_URL = "console:overview"
LOGOUT_REDIRECT_URL = "console:login"
DEFAULT_EXCEPTION_REPORTER = "config.error_reports.Reporter"
DEFAULT_EXCEPTION_REPORTER_FILTER = "config.error_reports.Filter"
CSRF_FAILURE_VIEW = "config.console.views.csrf_failed"
SESSION_COOKIE_HTTPONLY = True
# Lockout: a name from one address, after so many wrong passwords, for so long.
AXES_FAILURE_LIMIT = 8
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "billing_app.console.lockout.locked_out"
AXES_USERNAME_CALLABLE = "billing_app.console.lockout.name_to_count"
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
AXES_CLIENT_IP_CALLABLE = "config.client_address.of"
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", 0, validate=validate.Range(0, 10))
METRICS_ALLOW = env.list("METRICS_ALLOW", [], subcast=str.strip, validate=check_readers)
# HTTPS: spoken by a proxy, whose word for it is taken only where it is said that there is one.
HTTPS = SECURE_SSL_REDIRECT = env.bool("HTTPS", False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS and TRUSTED_PROXIES else None
SECURE_REDIRECT_EXEMPT = [
    "^(healthz|readyz|metrics)$",  # asked from within, past the proxy
    "^v1(/|$)",  # `middleware.https_only` refuses instead
]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SILENCED_SYSTEM_CHECKS = [
    # Of `check --deploy`: they look for Django's own middleware by name, and ours are made of it.
    "security.W002",
    "security.W003",
    # What is true of the domain's other names is its owner's to say.
    "security.W005",
    "security.W021",
]
# Of every page outside /v1: nothing from elsewhere, and no script or style within a page.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.SELF],
        "object-src": [csp.NONE],
        "base-uri": [csp.NONE],
        "form-action": [csp.SELF],
        "frame-ancestors": [csp.NONE],
    }
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["billing_app.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["billing_app.throttling.AccountThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["config.api.handler.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.api.handler.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.api.handler.JSONAlways",
    "EXCEPTION_HANDLER": "config.api.errors.envelope_handler",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Batchdesk",
    "DESCRIPTION": "The OpenAI Files and Batches API, and what this service adds to it. Times are Unix seconds; "
    "what is not set is `null`. Errors have one shape, also those that are not listed with an operation (404 for an "
    "unknown path, 405).",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVERS": [{"url": "/", "description": "This installation."}],
    "TAGS": [{"name": name} for name in ("Files", "Uploads", "Batches", "Models", "Usage")],
    "SCHEMA_PATH_PREFIX": "/v1",
    "SORT_OPERATIONS": False,  # in the order of the routes
    "POSTPROCESSING_HOOKS": ["config.api.schema.finish"],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "DISABLE_DOCSTRING_DESCRIPTIONS": True,  # docstrings are for who reads the source
}

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LOCALE_PATHS = [BASE_DIR / "config" / "locale"]
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = env.str("TIME_ZONE", "UTC")
USE_TZ = True

# Limits of the tenant API (spec: F8, V9, V10, V11)
ALLOW_INPUT_DOWNLOAD = env.bool("ALLOW_INPUT_DOWNLOAD", False)
MAX_FILE_BYTES = 500 * 1024 * 1024
MAX_PART_BYTES = 64 * 1024 * 1024  # F10
MAX_REQUESTS = 50_000
MAX_LINE_BYTES = 6 * 1024 * 1024
MAX_EMBEDDING_INPUTS = 50_000
CONTEXT_BYTES_PER_TOKEN = 16
MAX_VALIDATION_ERRORS = 1_000
BATCH_VISIBLE_DAYS = 30  # B6

# Quotas of a new account (F9); an account's own are edited in the admin
QUOTA_FILES = 10_000
QUOTA_BYTES = 100 * 1024**3
RESERVATION_SECONDS = 3600.0  # after which an upload under way is taken for dead
UPLOAD_SECONDS = 3600.0  # that one in parts may take (F10)
UPLOAD_LEASE = 10.0  # seconds; while its parts are put together nobody else begins to

# Requests an account may make in a minute (B9); an account's own are edited in the admin
RATE_LIMITS = {
    "files.create": 600,
    "files.list": 300,
    "files.retrieve": 1000,
    "files.delete": 1000,
    "files.content": 600,
    "uploads.create": 600,
    "uploads.parts": 1000,
    "uploads.complete": 600,
    "uploads.cancel": 1000,
    "batches.create": 300,
    "batches.list": 100,
    "batches.retrieve": 1000,
    "batches.cancel": 1000,
    "batches.estimate": 20,
    "models": 600,
    "usage": 60,
}
RATE_LIMIT_WINDOW = 60  # seconds; another value is for tests
RATE_LIMIT_REDIS_TIMEOUT = 0.5  # seconds, after which a limit is decided without Redis
RATE_LIMIT_REDIS_PAUSE = 5.0  # seconds, until Redis is asked again after it failed
RATE_LIMIT_LOCAL_SHARE = 4  # meanwhile each process allows a quarter of the limit

# Money
CURRENCY = env.str("CURRENCY", "USD", validate=validate.Regexp("^[A-Z]{3}$"))
BUDGET_ALERTS = (50, 80, 100)  # per cent
MONTH_CLOSING_DELAY = 600.0  # seconds after a month's end; its last results have been booked by then
HOLD_BYTES_PER_TOKEN = 2  # of a prepaid batch's worst case: text of any language has more bytes a token
HOLD_OUTPUT_TOKENS = 4096  # of a request that sets no limit, on a model that has neither one nor a context

# Mail (budget alerts); without EMAIL_URL none is sent
globals().update(email(env.str("EMAIL_URL", "")))
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", "batchdesk@localhost")

# How batches run (seconds, bytes)
SHARD_REQUESTS = 256
SHARD_BYTES = 8 * 1024 * 1024
LANE_PERMITS = env.int("LANE_PERMITS", 256, validate=validate.Range(1, 4096))
LANE_BUFFER_BYTES = env.int("LANE_BUFFER_BYTES", 64 * 1024 * 1024, validate=validate.Range(min=SHARD_BYTES))
LANE_LEASE = 20.0
LANE_TURN = 30.0
FLUSH_INTERVAL = 1.0
FLUSH_RESULTS = 256
FLUSH_BYTES = 8 * 1024 * 1024
STAGE_LEASE = 30.0
CANCEL_GRACE = env.float("CANCEL_GRACE", 10.0, validate=validate.Range(min=0))
RECONCILE_INTERVAL = 10.0
ORPHAN_AGE = 3600.0
UPSTREAM_ADDRESSES = env.list("UPSTREAM_ADDRESSES", list(KINDS), subcast=str.strip, validate=check_networks)
UPSTREAM_CONNECT_TIMEOUT = env.float("UPSTREAM_CONNECT_TIMEOUT", 10.0, validate=validate.Range(min=0.1))
UPSTREAM_SILENCE_TIMEOUT = env.float("UPSTREAM_SILENCE_TIMEOUT", 300.0, validate=validate.Range(min=1))
UPSTREAM_TOTAL_TIMEOUT = env.float("UPSTREAM_TOTAL_TIMEOUT", 900.0, validate=validate.Range(min=1))
UPSTREAM_MAX_ATTEMPTS = env.int("UPSTREAM_MAX_ATTEMPTS", 5, validate=validate.Range(min=1))
UPSTREAM_RETRY_BUDGET = env.float("UPSTREAM_RETRY_BUDGET", 600.0, validate=validate.Range(min=0))
MAX_ANSWER_BYTES = env.int("MAX_ANSWER_BYTES", 16 * 1024 * 1024, validate=validate.Range(min=1024))

LOGGING = logs.configuration(LOG_FORMAT, LOG_LEVEL)

try:
    env.seal()
except EnvValidationError as error:
    raise ImproperlyConfigured(str(error)) from None

if production.is_production(ALLOWED_HOSTS):
    _urls = {"DATABASE_URL": DATABASE_URL, "REDIS_URL": REDIS_URL}
    _faults = list(production.faults(debug=DEBUG, secret_key=_given_key, kept_key=_kept_key, urls=_urls))
    if _faults:
        raise ImproperlyConfigured(f"ALLOWED_HOSTS names more than this machine. {' '.join(_faults)}")
