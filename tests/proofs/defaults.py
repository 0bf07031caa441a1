"""What holds without a line: each library's default, asked of the library where it can tell."""

from fnmatch import fnmatchcase
from signal import Signals
from tempfile import NamedTemporaryFile

from celery.app.defaults import DEFAULTS
from kombu.transport.redis import Channel
from supervisor.datatypes import Automatic, RestartWhenExitUnexpected
from supervisor.options import ServerOptions

from tasklog.conf import DEFAULTS as TASKLOG

REQUIRED = "none: it must be said"

SETTINGS = {
    "DATABASES.conn_max_age": 0,
    "DATABASES.conn_health_checks": False,
    "DATABASES.transaction_mode": "DEFERRED",
    "DATABASES.timeout": 5,
    "DATABASES.init_command": "",
    "CELERY_BROKER_TRANSPORT_OPTIONS.visibility_timeout": Channel.visibility_timeout,
    "CELERY_BROKER_TRANSPORT_OPTIONS.socket_timeout": Channel.socket_timeout,
    "CELERY_BROKER_TRANSPORT_OPTIONS.confirm_publish": False,
    "CELERY_DB_REUSE_MAX": 0,
    **{f"CELERY_{name.upper()}": default for name, default in DEFAULTS.items()},
    **{f"TASKLOG.{name}": default for name, default in TASKLOG.items()},
    **{
        f"CELERY_TASK_PUBLISH_RETRY_POLICY.{name}": default
        for name, default in DEFAULTS["task_publish_retry_policy"].items()
    },
}

# As documented by Docker, Compose, the images and Redis. The first pattern that fits counts.
COMPOSE = {
    "*.healthcheck.test": "none: whether a container is healthy is not known",
    "*.healthcheck.interval": "30 s",
    "*.healthcheck.timeout": "30 s",
    "*.healthcheck.retries": "3",
    "*.healthcheck.start_period": "0 s",
    "*.healthcheck.<<": "Docker's times: every 30 s",
    "*.restart": "no",
    "*.init": "false",
    "*.read_only": "false",
    "*.tmpfs": "none",
    "*.security_opt": "none: setuid programs may give rights",
    "*.cap_drop": "none: fourteen of root's capabilities are held",
    "*.logging": "`json-file`, without a limit",
    "*.stop_grace_period": "10 s, then KILL",
    "*.shm_size": "64 MB",
    "*.hostname": "the container's id",
    "*.profiles": "none: started with all others",
    "*.develop": "none: `docker compose watch` watches nothing",
    "compose:app.volumes": "none: each container has files of its own",
    "*.volumes": "a new volume for each new container",
    "production:flower.ports": "those of docker-compose.yml",
    "*.ports": "none is published; without an address, on all of the host's",
    "further:worker.depends_on": "that of docker-compose.yml",
    "*.depends_on.*": "none: started at the same time",
    "compose:redis.command.requirepass": "none: no password",
    "compose:redis.command.appendonly": "no",
    "compose:redis.command.save": "3600 1 300 100 60 10000",
    "compose:redis.command.maxmemory-policy": "noeviction",
    "*.POSTGRES_USER": "postgres",
    "compose:*.POSTGRES_PASSWORD": "none: PostgreSQL refuses to start",
    "*.RABBITMQ_DEFAULT_USER": "guest, from the same host alone",
    "*.RABBITMQ_DEFAULT_PASS": "guest",
    "*.RABBITMQ_DEFAULT_VHOST": "/",
    "compose:*.WEB_CONCURRENCY": "1",
    "compose:*.FLOWER_BASIC_AUTH": "none: open to everybody",
    "compose:*.FLOWER_READ_ONLY": "false",
    "compose:*.SLOW_WORKER": "none: supervisord refuses its file",
    "compose:*.<<": "none: the settings' own defaults",
    "compose:*.environment.*": "not set",
    "further:*.environment.BROKER_*": "not set",
    "rabbitmq:redis": "started, as docker-compose.yml says",
    "rabbitmq:rabbitmq.*": REQUIRED,
    "compose:*": None,
    "*": "that of docker-compose.yml",
}


def default_of(line):
    """Return what holds without a line (str, Markdown); None: nobody has said it."""
    name = line.name.split("#")[0]
    if line.in_compose:
        return next(text for pattern, text in COMPOSE.items() if fnmatchcase(name, pattern))
    if line.file == "supervisord.conf":
        return supervisor_default(*name.split(".", 1))
    if line.file == "blog/celery.py":
        return REQUIRED
    return f"`{SETTINGS[name]!r}`" if name in SETTINGS else None


def supervisor_default(section, option):
    """Return Supervisor's default of an option, as it stands in the file."""
    options = ServerOptions()
    with NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("[supervisord]\n[program:a]\ncommand=a\n[group:b]\nprograms=a\n")
        file.flush()
        options.realize(["-c", file.name], doc="")
    (group,) = options.process_group_configs
    kind = section.split(":")[0]
    known = {
        "supervisord": options.default_map,
        "group": {"priority": group.priority},
        "supervisorctl": {"serverurl": "http://localhost:9001"},
        "program": vars(group.process_configs[0])
        | {"command": REQUIRED, "directory": "where supervisord was started"},
        "eventlistener": vars(group.process_configs[0]) | {"command": REQUIRED},
    }
    value = known.get(kind, {}).get(option, REQUIRED)
    if value is Automatic:
        return "AUTO: a file in /tmp, removed at the next start"
    if value is RestartWhenExitUnexpected:
        return "unexpected"
    if isinstance(value, Signals):
        return value.name.removeprefix("SIG")
    if isinstance(value, bool):
        return str(value).lower()
    if option.endswith("maxbytes"):
        return f"{value // 2**20} MB"
    return f"{value} s" if option.endswith("secs") else str(value)
