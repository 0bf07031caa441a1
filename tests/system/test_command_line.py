"""The commands that the guides type, with and without a worker."""

import pytest
from celery import current_app

from blog.celery import debug_task
from posts.tasks.basics import add
from tests.services import Redis, Visitor, free_port, wait_for

from ..conftest import need


def output_of(process, seconds=30):
    process.wait(seconds)
    return process.output


def test_status_without_a_worker(start):
    """G1.9: exit status 69 (EX_UNAVAILABLE), for scripts."""
    status = start("celery", "-A", "blog", "status")
    assert "No nodes replied" in output_of(status)
    assert status.wait() == 69


def test_status_with_a_worker(start):
    start.worker()
    wait_for(current_app.control.inspect(timeout=3).ping, "the worker to listen")
    status = start("celery", "-A", "blog", "status")
    assert "1 node online." in output_of(status)
    assert status.wait() == 0


def test_the_banner_says_what_the_worker_will_do(start):
    """G1.7: application, transport, results, concurrency, queues, tasks."""
    banner = start.worker().output
    for line in (
        "app:         blog:",
        "transport:   redis://",
        "results:     ",
        "concurrency: 2 (prefork)",
        ".> celery           exchange=celery(direct) key=celery",
        ".> slow             exchange=slow(direct) key=slow",
        ". blog.celery.debug_task",
        ". blog.celery.square",
        ". posts.tasks.basics.add",
        ". posts.tasks.export.export_blog",
    ):
        assert line in banner, banner


def test_inspect_tells_of_workers(start):
    """G1.10."""
    start.worker()
    inspect = current_app.control.inspect(timeout=3, limit=1)
    wait_for(inspect.ping, "the worker to listen")
    (stats,) = inspect.stats().values()
    assert stats["pool"]["max-concurrency"] == 2
    (registered,) = inspect.registered().values()
    assert "blog.celery.square" in registered
    assert list(inspect.active().values()) == [[]]


def test_the_celery_shell_knows_the_tasks(start):
    """G1.11: tasks by their names; delay() returns an AsyncResult."""
    shell = start(
        "bash",
        "-c",
        "echo 'print(repr(debug_task.delay()), square.name)' | celery -A blog shell --python",
    )
    output = output_of(shell)
    assert "<AsyncResult: " in output
    assert "blog.celery.square" in output


def test_a_bare_redis_url_means_localhost(start):
    """G1.6: the address that the banner shows. Nothing is contacted here."""
    code = "from blog.celery import app; print(app.connection().as_uri())"
    process = start("python", "-c", code, env={"CELERY_BROKER_URL": "redis://"})
    assert "@localhost:6379//" in output_of(process)


def test_without_a_broker_url_celery_means_rabbitmq(start):
    """G1.8: what somebody gets who has configured no broker at all."""
    code = "from celery import Celery; print(Celery().connection().as_uri())"
    process = start("env", "-u", "CELERY_BROKER_URL", "python", "-c", code)
    assert "amqp://guest:**@localhost:5672//" in output_of(process)


def test_a_refused_amqp_connection(start):
    """G1.8: how it looks when there is no RabbitMQ. The worker goes on trying."""
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    worker = start("celery", "-A", "blog", "worker", env={"CELERY_BROKER_URL": url})
    worker.wait_for_output("Connection refused")
    assert "consumer: Cannot connect to amqp://guest:**@127.0.0.1" in worker.output


@pytest.mark.parametrize("attribute", ["get()", "state"])
def test_without_a_results_backend_there_is_nothing_to_ask(start, attribute):
    """G1.15."""
    code = f"from celery import Celery; Celery(broker='memory://').AsyncResult('x').{attribute}"
    process = start("python", "-c", code, env={"DJANGO_SETTINGS_MODULE": ""})
    output = output_of(process)
    assert process.wait() == 1
    assert "DisabledBackend" in output or "No result backend is configured" in output


@pytest.mark.proves("signals.celeryd_init", fails="TimeoutExpired")
def test_a_worker_refuses_a_bad_configuration(start):
    """Without it, the worker starts, and its tasks fail one by one."""
    worker = start("celery", "-A", "blog", "worker", env={"CELERY_RESULT_BACKEND": "django-bd"})
    assert worker.wait() == 1
    assert "CELERY_RESULT_BACKEND 'django-bd' does not exist" in worker.output
    assert "Traceback" not in worker.output


def test_a_worker_waits_for_its_broker(start, folder):
    """Start order does not matter: that is Celery's default, and needs no setting."""
    port = free_port()
    worker = start(
        "celery", "-A", "blog", "worker", "-l", "INFO",
        env={"CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0"},
    )  # fmt: skip
    worker.wait_for_output("Cannot connect to redis://")
    redis = need(Redis(folder / "redis", port).start)
    try:
        worker.wait_for_output(" ready.")
        worker.stop()
    finally:
        redis.stop()


def test_a_new_task_needs_a_restart(start, copy_of_the_site):
    """G1.14, C9: a worker does not reload code."""
    basics = copy_of_the_site / "posts" / "tasks" / "basics.py"
    worker = start.worker(cwd=copy_of_the_site)
    code = "\n\n@shared_task\ndef newcomer():\n    return 'here'\n"
    basics.write_text(basics.read_text() + code)
    current_app.send_task("posts.tasks.basics.newcomer")
    worker.wait_for_output("Received unregistered task of type 'posts.tasks.basics.newcomer'")
    worker.stop()
    assert ". posts.tasks.basics.newcomer" in start.worker(cwd=copy_of_the_site).output
    assert current_app.send_task("posts.tasks.basics.newcomer").get(timeout=20) == "here"


def test_a_worker_that_reloads(start, copy_of_the_site):
    """C9: the Pipfile's `worker-reload` starts the worker anew when a file changes."""
    command = "celery -A blog worker -l INFO -c 1"
    worker = start("watchfiles", "--filter", "python", command, "blog", "posts",
                   cwd=copy_of_the_site)  # fmt: skip
    worker.wait_for_output(" ready.")
    basics = copy_of_the_site / "posts" / "tasks" / "basics.py"
    basics.write_text(basics.read_text() + "\n\n@shared_task\ndef newcomer():\n    return 'here'\n")
    worker.wait_for_output(" ready.", count=2)
    assert current_app.send_task("posts.tasks.basics.newcomer").get(timeout=20) == "here"


def test_a_task_is_called_by_name_without_its_code(start):
    """C12: what another project does that shares the broker alone."""
    worker = start.worker()
    current_app.send_task("posts.tasks.basics.sample_task", kwargs={"name": "by name"})
    worker.wait_for_output("Hello by name, this is the worker speaking.")


def test_a_queue_of_its_own_is_isolated(start, redis_server):
    """C5: a worker with -Q takes nothing from other queues."""
    default = start.worker("-Q", "celery")
    slow_one = debug_task.apply_async(queue="slow")
    debug_task.delay()
    default.wait_for_output("Request: <Context:")
    assert redis_server.client().llen("slow") == 1
    slow = start.worker("-Q", "slow")
    slow.wait_for_output(f"Task blog.celery.debug_task[{slow_one.id}] received")
    wait_for(lambda: redis_server.client().llen("slow") == 0, "the queue to be empty")
    assert slow_one.id not in default.output


def test_a_misspelt_queue_is_an_error(start):
    worker = start("celery", "-A", "blog", "worker", "-Q", "slwo")
    assert worker.wait() != 0
    assert "slwo" in worker.output
    with pytest.raises(Exception, match="slwo"):
        debug_task.apply_async(queue="slwo")


def test_two_workers_share_one_queue(start):
    """G1.4: what grows a site. Neither knows of the other."""
    workers = [start.worker("-c", "1") for _ in range(2)]
    results = [add.delay(1, n, seconds=0.3) for n in range(6)]
    assert [result.get(timeout=20) for result in results] == [1, 2, 3, 4, 5, 6]
    for worker in workers:
        worker.wait_for_output("succeeded in")


def test_a_superuser_signs_in_to_the_admin(start):
    """G1.1."""
    env = {"DJANGO_SUPERUSER_PASSWORD": "correct horse"}
    options = ["--noinput", "--username", "root", "--email", "root@example.org"]
    created = start("python", "manage.py", "createsuperuser", *options, env=env)
    assert "Superuser created successfully." in output_of(created)
    visitor = Visitor(start.web().url)
    visitor.sign_in("root", "correct horse")
    page = visitor.get("/admin/").text
    assert "Task results" in page
    assert "Group results" in page
    assert "Periodic tasks" in page
