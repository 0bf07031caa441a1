"""No line without a proof, no proof that proves nothing, and a page that says what is so."""

from collections import Counter

from tests.services import Process

from .defaults import default_of
from .lines import all_lines
from .marks import all_proofs
from .settings_doc import PAGE, page, reason_of


def test_each_line_has_a_proof_and_each_proof_a_line():
    lines, proven = [line.name for line in all_lines()], {proof.line for proof in all_proofs()}
    assert sorted(set(lines) - proven) == [], "mark a test with pytest.mark.proves(…)"
    assert sorted(proven - set(lines)) == [], "these lines are gone"
    assert [name for name, times in Counter(lines).items() if times > 1] == []


# By file, what stands there, what is added to it, and the names under which that is seen.
ADDED = [
    (
        "blog/settings.py",
        "CELERY_DB_REUSE_MAX = 2**31\n",
        """CELERY_TASK_ACKS_LATE: bool = True
CELERY_BROKER_TRANSPORT_OPTIONS |= {"global_keyprefix": "x", "visibility_timeout": 5}
CELERY_TASK_QUEUES += [Queue("third")]
CELERY_TASK_ROUTES["x"] = {"queue": "celery"}
CELERY_A, CELERY_B = CELERY_C = 1, 2
CELERY_TASK_ANNOTATIONS = {}
TASKLOG.update(TRACK=False)
DATABASES["default"]["CONN_MAX_AGE"] = 5
DATABASES["default"]["OPTIONS"]["timeout"] = 5
""",
        "CELERY_TASK_ACKS_LATE CELERY_BROKER_TRANSPORT_OPTIONS.global_keyprefix "
        "CELERY_BROKER_TRANSPORT_OPTIONS.visibility_timeout#2 CELERY_TASK_QUEUES#2 "
        "CELERY_TASK_ROUTES.x.queue CELERY_A CELERY_B CELERY_C CELERY_TASK_ANNOTATIONS "
        "TASKLOG.update DATABASES.CONN_MAX_AGE DATABASES.timeout#2",
    ),
    (
        "blog/celery.py",
        "app.autodiscover_tasks()\n",
        "app.conf.task_acks_late = True\napp.conf.update(task_acks_late=True)\n",
        "app.conf.task_acks_late app.conf.update",
    ),
    (
        "supervisord.conf",
        "startsecs=10\n",
        "stopasgroup = true\nstartretries: 1 ; why\n",
        "program:default.stopasgroup program:default.startretries "
        "program:slow.stopasgroup program:slow.startretries",
    ),
    (
        "docker-compose.yml",
        "  db:\n",
        "    stop_signal: SIGKILL\n    privileged: true\n",
        "compose:db.stop_signal compose:db.privileged",
    ),
    (
        "docker-compose.yml",
        "  web:\n",
        "    user: root\n    cap_add: [ALL]\n    deploy:\n      replicas: 2\n",
        "compose:web.user compose:web.cap_add compose:web.deploy",
    ),
    (
        "docker-compose.yml",
        "      - noeviction\n",
        "      - --protected-mode=no\n",
        "compose:redis.command.protected-mode=no",
    ),
    (
        "docker-compose.yml",
        "",
        "networks:\n  default: {external: true}\n",
        "compose:networks",
    ),
    (
        "docker-compose.production.yml",
        "  db:\n",
        '    restart: "no"\n    stop_grace_period: 1s\n    privileged: true\n',
        "production:db.restart production:db.stop_grace_period production:db.privileged",
    ),
    (
        "docker-compose.worker.yml",
        "  worker:\n",
        "    healthcheck: {disable: true}\n    init: false\n",
        "further:worker.healthcheck.disable further:worker.init",
    ),
]


def test_each_line_that_is_added_is_seen(copy_of_the_site):
    """However it is written, and whatever it says: without a proof it would fail above."""
    before = {line.name for line in all_lines()}
    for file, above, added, _ in ADDED:
        path = copy_of_the_site / file
        text = path.read_text()
        assert above in text
        path.write_text(text.replace(above, above + added) if above else text + added)
    names = {line.name for line in all_lines(copy_of_the_site)}
    expected = {name for *_, seen in ADDED for name in seen.split()}
    assert names - before == expected


def test_each_proof_says_what_breaks_without_its_line():
    silent = {proof.node for proof in all_proofs() if not proof.breaks}
    assert silent == set(), "write «Without …» into the docstring"


def test_each_line_has_a_default_and_a_reason():
    proofs = {}
    for proof in all_proofs():
        proofs.setdefault(proof.line, []).append(proof)
    lines = all_lines()
    assert [line.name for line in lines if not default_of(line)] == [], "see defaults.py"
    silent = [line.name for line in lines if not reason_of(line, proofs.get(line.name, []))]
    assert silent == [], "write a comment on the line, or the reason into the docstring"


def test_the_page_of_settings_is_up_to_date():
    assert PAGE.read_text() == page(), "run `make settings-page`"


WRONG = '''
import pytest
from blog import settings

@pytest.mark.proves("CELERY_RESULT_EXTENDED")
def test_that_sees_nothing():
    """Without it, nothing happens."""

@pytest.mark.proves("CELERY_TASK_TRACK_STARTED")
def test_that_sees_the_line_and_not_what_it_does():
    """Without it, nothing happens."""
    settings.CELERY_TASK_TRACK_STARTED

@pytest.mark.proves("CELERY_TASK_SEND_SENT_EVENT")
def test_that_fails():
    """Without it, nothing happens."""
    assert not settings.CELERY_TASK_SEND_SENT_EVENT

@pytest.fixture
def what_fails():
    assert hasattr(settings, "CELERY_WORKER_SEND_TASK_EVENTS")

@pytest.mark.proves("CELERY_WORKER_SEND_TASK_EVENTS")
def test_whose_fixture_fails(what_fails):
    """Without it, nothing happens."""

@pytest.mark.proves("CELERY_TASK_TIME_LIMIT", fails="another text")
def test_that_fails_otherwise():
    """Without it, nothing happens."""
    if not hasattr(settings, "CELERY_TASK_TIME_LIMIT"):
        raise ValueError

@pytest.mark.proves("CELERY_RESULT_EXPIRES")
def test_that_is_right():
    """Without it, its value is another."""
    assert getattr(settings, "CELERY_RESULT_EXPIRES", None)
'''


def test_a_proof_that_proves_nothing_is_reported(copy_of_the_site, folder):
    """Six proofs, of which one is right, and a line without any."""
    for path in (copy_of_the_site / "tests").rglob("test_*.py"):
        path.unlink()
    (copy_of_the_site / "tests" / "blog" / "test_wrong.py").write_text(WRONG)
    names = "CELERY_RESULT_EX*,CELERY_TASK_TRACK_STARTED,CELERY_*_EVENT*,CELERY_TASK_TIME_LIMIT"
    command = ["python", "-m", "tests.proofs", "--only", f"{names},TASKLOG.TRACK"]
    prove = Process(command, folder / "log", cwd=copy_of_the_site)
    assert prove.wait(150) == 1, prove.output
    for said in (
        "CELERY_RESULT_EXTENDED: tests/blog/test_wrong.py::test_that_sees_nothing passes without",
        "and_not_what_it_does fails for another reason: AttributeError",
        "test_that_fails does not pass with it",
        "CELERY_RESULT_EXPIRES: proven",
        "test_whose_fixture_fails fails for another reason: failed on setup",
        "test_that_fails_otherwise fails for another reason: ValueError",
        "TASKLOG.TRACK: no test is marked as its proof",
        "1 of 7 lines proven",
    ):
        assert said in prove.output


def test_a_pattern_that_names_no_line_is_an_error(folder):
    command = ["python", "-m", "tests.proofs", "--only", "CELERY_TIMEZONE,CELERY_TIMEZOEN"]
    prove = Process(command, folder / "log")
    assert prove.wait(60) == 2
    assert "no line is named 'CELERY_TIMEZOEN'" in prove.output
