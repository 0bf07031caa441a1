"""No line without a proof, no proof that proves nothing, and a page that says what is so."""

from collections import Counter

from tests.services import Process

from .lines import all_lines
from .marks import all_proofs
from .settings_doc import PAGE, page


def test_each_line_has_a_proof_and_each_proof_a_line():
    lines, proven = [line.name for line in all_lines()], {proof.line for proof in all_proofs()}
    assert sorted(set(lines) - proven) == [], "mark a test with pytest.mark.proves(…)"
    assert sorted(proven - set(lines)) == [], "these lines are gone"
    assert [name for name, times in Counter(lines).items() if times > 1] == []


def test_each_proof_says_what_breaks_without_its_line():
    silent = {proof.node for proof in all_proofs() if not proof.breaks}
    assert silent == set(), "write «Without …» into the docstring"


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

@pytest.mark.proves("CELERY_RESULT_EXPIRES")
def test_that_is_right():
    """Without it, its value is another."""
    assert getattr(settings, "CELERY_RESULT_EXPIRES", None)
'''


def test_a_proof_that_proves_nothing_is_reported(copy_of_the_site, folder):
    """Four proofs, of which one is right, and a line without any."""
    for path in (copy_of_the_site / "tests").rglob("test_*.py"):
        path.unlink()
    (copy_of_the_site / "tests" / "blog" / "test_wrong.py").write_text(WRONG)
    names = "CELERY_RESULT_EX*,CELERY_TASK_TRACK_STARTED,CELERY_TASK_SEND_SENT_EVENT,TASKLOG.TRACK"
    prove = Process(
        ["python", "-m", "tests.proofs", "--only", names], folder / "log", cwd=copy_of_the_site
    )
    assert prove.wait(150) == 1, prove.output
    for said in (
        "CELERY_RESULT_EXTENDED: tests/blog/test_wrong.py::test_that_sees_nothing passes without",
        "and_not_what_it_does fails for another reason: AttributeError",
        "test_that_fails does not pass with it",
        "CELERY_RESULT_EXPIRES: proven",
        "TASKLOG.TRACK: no test is marked as its proof",
        "1 of 5 lines proven",
    ):
        assert said in prove.output
