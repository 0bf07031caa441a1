"""The image: what is in it, what is not, and the tests inside of it."""

import subprocess

import pytest

from .stack import PRODUCTION, find_docker

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def image(stacks):
    """A stack of which only the images are built. Its folder holds what must not get into them."""
    stack = stacks("docker-compose.yml")
    (stack.folder / ".env").write_text("SECRET_KEY=never-in-an-image\n")
    (stack.folder / ".git").mkdir()
    (stack.folder / ".git" / "config").write_text("never-in-an-image\n")
    stack("--profile", "test", "build", "web", "test")
    return stack


def look(image, script, target="app"):
    """Run a shell script in the image, as root. Returns what it prints."""
    name = f"{image.name}-{target}"
    return image.run("run", "--rm", "--user", "0", "--network", "none", name, "sh", "-c", script)


def test_it_is_small(image):
    """At most 250 MB more than the base image. Measured with Debian's Python: 126 MB."""
    size = image.inspect(f"{image.name}-app", ".Size")
    base = image.inspect("python:3.13-slim", ".Size")
    print(f"The image is {(size - base) / 1e6:.0f} MB larger than its base")
    assert size - base < 250e6


@pytest.mark.parametrize("target", ["app", "test"])
def test_it_holds_no_secret_and_no_history(image, target):
    found = look(image, "find / -xdev -name .git -o -xdev -name .env -o -xdev -name .venv", target)
    assert found == ""
    found = look(image, "grep -rl never-in-an-image /app /state /venv || true", target)
    assert [path for path in found.split() if "/tests/" not in path] == []
    name = f"{image.name}-{target}"
    history = image.run("history", "--no-trunc", "--format", "{{.CreatedBy}}", name)
    assert "never-in-an-image" not in history
    names = {line.split("=")[0] for line in image.inspect(name, ".Config.Env")}
    assert not [name for name in names if "KEY" in name or "PASSWORD" in name or "URL" in name]


def test_it_holds_no_compiler_no_tests_and_no_installer(image):
    found = look(image, "command -v cc gcc make git; ls /app; ls /venv/bin")
    words = found.split()
    assert "manage.py" in words
    assert not {"tests", "docs", "Pipfile", "pip", "pytest"} & set(words)
    assert not [word for word in words if word.startswith(("/usr/bin/", "/usr/local/bin/"))]


def test_it_runs_as_an_ordinary_user_and_says_what_it_is(image):
    config = image.inspect(f"{image.name}-app", ".Config")
    assert config["User"] == "blog"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "BSD-3-Clause"
    assert config["Cmd"][0] == "gunicorn", "exec form: no shell between Docker and the program"


def test_the_site_starts_from_the_image_alone(image):
    """Without Compose: one `docker run` checks the production settings."""
    command = [find_docker(), "run", "--rm", "-e", f"SECRET_KEY={PRODUCTION['SECRET_KEY']}"]
    command += ["-e", "ALLOWED_HOSTS=blog.example.org", f"{image.name}-app"]
    command += ["python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_tests_run_in_it(image):
    """docker compose run --rm test, with a part of the tests, so that it takes seconds."""
    part = ["tests/blog", "tests/system/test_first_task.py"]
    result = image("run", "--rm", "test", "pytest", "-q", "-n", "0", *part)
    assert " passed" in result.stdout
