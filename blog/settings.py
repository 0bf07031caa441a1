"""The site's settings, read from top to bottom.

What differs between places comes from environment variables; `.env.example` lists each with its
reason. They are taken from the process's environment first, then from `.env`, then from the file
that `make run` leaves in `var/` while it runs.
"""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from environs import Env
from kombu import Exchange, Queue

BASE_DIR = Path(__file__).resolve().parent.parent

env = Env()
env.read_env(env.str("ENV_FILE", str(BASE_DIR / ".env")), recurse=False)

# Everything that the site writes: database, uploads, exports, logs, sockets.
STATE_DIR = env.path("STATE_DIR", BASE_DIR / "var")
env.read_env(str(STATE_DIR / "run.env"), recurse=False)

# --- The site -------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", False)

SECRET_KEY = env.str("SECRET_KEY", "only-for-development" if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. Set it to 50 random characters, or DEBUG=true for development."
    )

ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"] if DEBUG else [])
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS is not set. Set it to the site's host names, separated by commas, "
        "or DEBUG=true for development."
    )
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", [])

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.sitemaps",
    "django_celery_results",
    "django_celery_beat",
    "django_htmx",
    "csp",
    "tasklog.apps.TasklogConfig",
    "blog.apps.BlogConfig",
    "posts.apps.PostsConfig",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "blog.urls"
WSGI_APPLICATION = "blog.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "posts:list"
LOGOUT_REDIRECT_URL = "posts:list"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}Validator"}
    for name in ("UserAttributeSimilarity", "MinimumLength", "CommonPassword", "NumericPassword")
]

TIME_ZONE = env.str("TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
MEDIA_URL = "media/"
MEDIA_ROOT = STATE_DIR / "media"
EXPORT_ROOT = STATE_DIR / "exports"  # Never served by URL: a view hands each file to its owner.
WHITENOISE_USE_FINDERS = DEBUG
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

# Behind HTTPS everywhere but on a developer's machine. HTTPS=false is for trying the
# production settings without a certificate.
HTTPS = env.bool("HTTPS", not DEBUG)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
# Default 0. A browser that was here once asks by HTTPS alone, for a year. Without «preload», which
# is for the whole domain and hard to take back: its owner decides. See hstspreload.org.
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SILENCED_SYSTEM_CHECKS = ["security.W021"]
SECURE_REDIRECT_EXEMPT = [r"^health/$"]  # Probes ask without TLS, from the same machine.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None

# What a page may load and where it may send a form. Nothing inline: text that slips through as
# markup stays without effect. Pictures may come from elsewhere, since posts and imports show them.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "https:"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

# What debug pages hide, beside Django's own list: the passwords in URLs.
DEFAULT_EXCEPTION_REPORTER_FILTER = "blog.secrets.ReporterFilter"

# --- Database and cache ---------------------------------------------------------------------------

# SQLite by default, PostgreSQL by DATABASE_URL. Connections are kept for a minute and checked
# before they are used again, in the web server and in the workers alike (see blog/celery.py).
DATABASES = {
    "default": env.dj_db_url(
        "DATABASE_URL",
        f"sqlite:///{STATE_DIR / 'db.sqlite3'}",
        conn_max_age=60,
        conn_health_checks=True,
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # Workers and web write at the same time. By default SQLite locks when a transaction first
    # writes, and a reader that wants to write fails at once: «database is locked».
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",  # take the write lock when the transaction begins
        "timeout": 20,  # and wait this many seconds for it (default 5)
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",  # readers never wait
    }

CACHES = {"default": env.dj_cache_url("CACHE_URL", "locmem://")}

# --- Mail -----------------------------------------------------------------------------------------

# Printed by default. A mail server that hangs holds a task for 10 s; Django's default is for ever.
email = {"EMAIL_BACKEND": None, **env.dj_email_url("EMAIL_URL", "console://")}
vars().update(email, EMAIL_TIMEOUT=email["EMAIL_TIMEOUT"] or 10)

# --- Celery ---------------------------------------------------------------------------------------
# Each line says: the default, the value here, the reason, when to change it. What is not listed
# keeps Celery's default: messages are JSON only, and a task is acknowledged before it runs.

# Default amqp:// (RabbitMQ on localhost). Here Redis; «redis://» alone is localhost:6379.
CELERY_BROKER_URL = env.str("CELERY_BROKER_URL", "")
# RabbitMQ in parts, so that a password may hold any character. One of them set, all are needed.
rabbitmq = {
    "BROKER_USER": env.str("BROKER_USER", ""),
    "BROKER_PASSWORD": env.str("BROKER_PASSWORD", ""),
    "BROKER_HOST": env.str("BROKER_HOST", ""),
    "BROKER_PORT": env.str("BROKER_PORT", ""),
    "BROKER_VHOST": env.str("BROKER_VHOST", ""),
}
if not CELERY_BROKER_URL and any(rabbitmq.values()):
    if missing := [name for name, value in rabbitmq.items() if not value]:
        raise ImproperlyConfigured(
            f"{', '.join(missing)} not set. RabbitMQ needs all of {', '.join(rabbitmq)}."
        )
    user, password, host, port, vhost = (quote(part, safe="") for part in rabbitmq.values())
    CELERY_BROKER_URL = f"amqp://{user}:{password}@{host}:{port}/{vhost}"
# Nothing is set: the Redis of a developer's own machine. A server names its own.
CELERY_BROKER_URL = CELERY_BROKER_URL or "redis://"

# Default none: .get() and .state raise. Here the Django database, in the tables of «django-db» and
# faster, see tasklog/README.md. «redis://localhost/1» and «django-cache» cannot be queried with the
# ORM.
CELERY_RESULT_BACKEND = env.str("CELERY_RESULT_BACKEND", "tasklog.backends:DatabaseBackend")
# Default none, which «django-cache» takes for «default». With it alone: which of CACHES it uses.
CELERY_CACHE_BACKEND = env.str("CELERY_CACHE_BACKEND", "default")

# Default False: rows without name, arguments, worker and traceback. Always wanted in a database.
CELERY_RESULT_EXTENDED = True

# Default False: a running task still says PENDING, as an unknown one does. Costs one write a task.
CELERY_TASK_TRACK_STARTED = True

# Default one day. Here a week, so that Monday can look at Friday. `celery.backend_cleanup`, which
# beat sends every night, deletes older rows.
CELERY_RESULT_EXPIRES = timedelta(days=7)

# Default False: a task that has done its work while the database is away becomes a FAILURE. Here
# the result is stored again, twenty times (default: for ever), pausing longer, about a minute.
CELERY_RESULT_BACKEND_ALWAYS_RETRY = True
CELERY_RESULT_BACKEND_MAX_RETRIES = 20

# Two queues, each with a worker of its own: «celery» for short work and everything unrouted,
# «slow» for what takes seconds. Named here, `celery -A blog worker` serves both, and a misspelt
# queue (with create_missing_queues off, default on) is an error instead of a queue nobody serves.
# Exchange and routing key are the queue's name, as Celery itself would create it: left out, both
# queues would be bound to the same key, and a message sent to that key would go to both.
CELERY_TASK_QUEUES = [Queue(name, Exchange(name), routing_key=name) for name in ("celery", "slow")]
CELERY_TASK_CREATE_MISSING_QUEUES = False
# Default none: all tasks go to «celery». These take seconds, and would hold up the short ones.
SLOW = ("export.*", "feeds.*", "images.*", "newsletter.send_batch")
CELERY_TASK_ROUTES = {f"posts.tasks.{name}": {"queue": "slow"} for name in SLOW}

# Default no limit: one hung task blocks its process for ever. After the soft limit the task gets
# SoftTimeLimitExceeded and may tidy up, after the hard one its process is killed. Seconds. A task
# that needs longer says so in its decorator, and the visibility timeout below has to grow with it.
CELERY_TASK_SOFT_TIME_LIMIT = 4 * 60
CELERY_TASK_TIME_LIMIT = 5 * 60

# Default False, multiplier 4: each process reserves four more tasks, and those wait for a whole
# visibility timeout when Redis restarts. Without prefetching none is stranded. That is for Redis
# only; with RabbitMQ the multiplier counts.
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Default 3,600 s: how long a message that a killed worker held stays invisible. Must exceed
    # the longest time limit, countdown and retry delay, or such a task runs twice.
    "visibility_timeout": 10 * 60,
    # Default none: with a Redis that hangs, `delay()` blocks for as long as it hangs. Seconds, for
    # connecting and for each answer. A call that gave up may still have been delivered, so send it
    # again under the same task id.
    "socket_timeout": 2,
}
if CELERY_BROKER_URL.startswith(("amqp", "pyamqp")):
    CELERY_WORKER_DISABLE_PREFETCH = False  # Celery would warn. RabbitMQ strands no message.
    # Default False: `delay()` returns before RabbitMQ has the message, which a restart may lose.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}

# Default 3: a call whose connection breaks tries for 13 s to reach a Redis that hangs, with one
# retry for 7. One is enough to replace a connection that broke while nothing was sent.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1}

# Default celery.worker.consumer:Consumer, with which a worker can exit when Redis restarts, and
# leave what it was just beginning at a stop to be run again.
CELERY_WORKER_CONSUMER = "blog.consumer:Consumer"

# Default 100, then the worker exits. None: it waits for its broker for as long as it takes, also
# when it starts.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None

# Default False. Flower and `celery events` show tasks only when workers and senders tell of them.
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = True

# Default: a file that beat writes. Here the database, edited in the admin. It is the scheduler of
# django-celery-beat, which alone would set back `celery.backend_cleanup` at each start.
CELERY_BEAT_SCHEDULER = "blog.schedulers:DatabaseScheduler"

# Default none: a run that beat missed is made good within two hours of its hour, or before it on
# the next day. Here within ten minutes after it, in seconds; longer for work that fits any hour.
CELERY_BEAT_CRON_STARTING_DEADLINE = 600

# Default False. `celery -A blog inspect ping -d celerybeat@$HOSTNAME` asks beat whether it lives:
# exit status 0, or 69 when nobody answers or the scheduler has stood still for a minute.
CELERY_BEAT_ENABLE_REMOTE_CONTROL = True

# Default UTC. Crontab schedules mean the hours that the site shows.
CELERY_TIMEZONE = TIME_ZONE

# Default 0: Celery closes the database connection before and after every task, whatever
# CONN_MAX_AGE says. This keeps it; blog/celery.py gives workers the rules that requests have.
CELERY_DB_REUSE_MAX = 2**31

# Default all False, see tasklog/conf.py. Each call is in the table before it is sent; in a
# transaction it is sent on commit, and later where broker or process died; an ETA waits there too.
TASKLOG = {"TRACK": True, "OUTBOX": True, "SCHEDULE_ETA": True}

# --- The site's own -------------------------------------------------------------------------------

# How long an export takes, in seconds: the demo blog alone would be done before you look. And for
# how many days it is kept: see `remove_old_exports`.
EXPORT_SECONDS = env.float("EXPORT_SECONDS", 15)
EXPORT_KEEP_DAYS = env.int("EXPORT_KEEP_DAYS", 7)

# Lets imports of feeds fetch from the server's own network. For development alone.
FEED_ALLOW_PRIVATE = env.bool("FEED_ALLOW_PRIVATE", False)

# Where links in mails lead: a task has no request that could tell.
here = "http://127.0.0.1:8000" if DEBUG else f"https://{ALLOWED_HOSTS[0].lstrip('.')}"
SITE_URL = env.str("SITE_URL", here)

# Opens /metrics to whoever sends «Authorization: Bearer …» with this value. Without it, staff only.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")

# --- Logging --------------------------------------------------------------------------------------

# One configuration for web and workers (see blog/celery.py). Inside a task each line carries the
# task's name and id.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "blog.logs.TaskFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(task)s%(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "INFO")},
    # Handlers of their own would print a second line; these loggers pass on to the root instead.
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        "gunicorn.access": {"handlers": [], "propagate": True},
    },
}
