"""What can be checked of a page without playing it: links, names, the table of coverage."""

import re
from pathlib import Path

from celery.bin.celery import celery as celery_command
from django.conf import global_settings
from django.core.management import get_commands
from django.utils.module_loading import import_string

from blog.checks import OPTIONS

from .pages import ROOT, Mistake, Page, check_test

# How many rows each section of coverage.md has.
SECTIONS = {"G1": 15, "G2": 9, "G3": 3, "R": 14, "C": 15, "F": 20, "T": 9}
PACKAGES = "blog|posts|tasklog|celery|kombu|django|django_celery_results|django_celery_beat"
MODULE = re.compile(rf"({PACKAGES})(\.[A-Za-z_]\w*)+")
# Where variables and settings are named that are neither Celery's nor Django's.
NAMED_IN = [
    *(ROOT / name for name in (".env.example", "Makefile", "CONTRIBUTING.md", "blog/settings.py")),
    *(ROOT / "tasklog").glob("*.md"),
    *ROOT.glob("docker-compose*.yml"),
    *ROOT.glob("supervisord*.conf"),
]
VARIABLES = {*dir(global_settings), "DJANGO_SETTINGS_MODULE", "DISABLE_SERVER_SIDE_CURSORS"}
# Names of tasks and files, and what Django 6 brings.
NOT_MODULES = re.compile(
    r"^celery\.(backend_cleanup|chord|chunks|group|map|starmap)$|\.(conf|service)$|^django\.tasks$"
)


def check_links(page):
    """Yield a mistake for each link or picture that leads nowhere."""
    for line, target in page.links:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        if not path.exists():
            yield f"{page.path.name}:{line}: {target}: there is no such file"
        elif anchor and anchor not in Page(path).anchors:
            yield f"{page.path.name}:{line}: {target}: that page has no such heading"


def check_names(page, written=()):
    """Yield a mistake for each setting, command, module or file that does not exist.

    What a page lists in ``<!-- gone: … -->`` is the other way round: it must not exist.

    Args:
        page (Page): the page.
        written (Iterable[str]): files that the pages themselves make.
    """
    gone = set(" ".join(re.findall(r"<!-- gone: (.*?) -->", page.text)).split())
    lines = page.text.splitlines()
    targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    commands = {
        r"manage\.py (\w+)": get_commands(),
        r"celery -A \w+ (\w+)": celery_command.commands,
        r"(?:^\$ |`)make ([a-z-]+)": targets,
    }
    for number, line in enumerate(lines, 1):
        place = f"{page.path.name}:{number}"
        for name in re.findall(r"\bCELERY_[A-Z][A-Z_]*[A-Z]\b", line):
            if (name in OPTIONS) == (name in gone):
                yield f"{place}: {name} is {'gone, and yet' if name in gone else 'not'} a setting"
        for pattern, known in commands.items():
            for name in re.findall(pattern, line):
                if (name in known) == (name in gone):
                    there_is = "there is still a" if name in gone else "there is no"
                    yield f"{place}: {there_is} command {name!r}"
    known = VARIABLES.union(*(re.findall(r"[A-Z][A-Z_]+", path.read_text()) for path in NAMED_IN))
    for number, word in page.words:
        is_variable = re.fullmatch(r"(?!CELERY_)[A-Z]+(_[A-Z]+)+", word)
        if is_variable and (word in known) == (word in gone):
            yield f"{page.path.name}:{number}: nothing here is named {word}"
        place = f"{page.path.name}:{number}"
        if MODULE.fullmatch(word) and not NOT_MODULES.search(word) and not is_there(word):
            yield f"{place}: there is no {word}"
        is_path = re.fullmatch(r"[\w.-]+(/[\w.-]+)+\.(py|conf|yml|md|html|toml)", word)
        if is_path and not (ROOT / word).exists() and word not in written:
            yield f"{place}: there is no file {word}"


def is_there(name):
    """Whether a dotted name is a module, or something in one."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    try:
        import_string(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return "." in module and import_attribute(module, attribute)
    return True


def import_attribute(path, attribute):
    """Whether the class or object at ``path`` has the attribute."""
    try:
        return hasattr(import_string(path), attribute)
    except ImportError:
        return False


def rows_of(text):
    """Return the rows of the table of coverage: (section, number, text, proof)."""
    section, rows = "", []
    for line in text.splitlines():
        if found := re.match(r"## ([A-Z]\d?)\. ", line):
            section = found[1]
        elif found := re.match(r"\| (\d+) \| (.+?) \| (.+?) \|$", line):
            rows.append((section, int(found[1]), found[2], found[3]))
    return rows


def check_coverage(path):
    """Yield a mistake for each row that is missing, and each without a proof that exists."""
    rows = rows_of(Path(path).read_text())
    for section, count in SECTIONS.items():
        numbers = [number for name, number, *_ in rows if name == section]
        if numbers != list(range(1, count + 1)):
            yield f"section {section} has rows {numbers}, not 1 to {count}"
    for section, number, _, proof in rows:
        tests = re.findall(r"`(tests/[^`]+)`", proof)
        chapters = re.findall(r"\]\(([^)]+\.md#[^)]+)\)", proof)
        if not tests and not chapters and not proof.startswith("not yet"):
            yield f"{section}.{number} names no proof"
        for test in tests:
            try:
                check_test(test)
            except Mistake as mistake:
                yield f"{section}.{number}: {mistake}"
