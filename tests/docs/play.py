"""Plays pages of the guide as a reader would: types the commands, writes the files, compares.

Everything happens on a «machine» of its own, made of Linux namespaces: its own network (so Redis is
on port 6379 and the site on 8000, as printed, whatever else runs here), its own processes (all end
with it), its own host name, and a reader who is not root. Only the disk is shared.
"""

import contextlib
import hashlib
import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

import pexpect

from tests.services import BIN, copy_site, find_program

from .compare import difference, normalise, pattern_of
from .pages import ROOT, Mistake, Page

# A network with loopback alone, a host name, then an ordinary user. The outer shell stays as
# process 1 and buries orphans.
MACHINE = """
hostname laptop
python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP'
unshare --user --map-user=1000 --map-group=1000 "$@"
exit $?
"""
UNSHARE = [
    *("setpriv", "--pdeathsig", "KILL"),  # it ends with the tests, even if those are killed
    *("unshare", "--map-root-user", "--net", "--uts", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
]
CLONE = "<!-- begins in: a clone -->"
PROMPT = re.compile(r"@@(\d+) \Z")
# Questions to workers, who have one second to answer: on a busy machine, asked up to three times.
QUESTION = re.compile(r"celery -A \w+ (status|inspect) |celery -A \w+ status$|inspect\.")
# How long a command may take, and a running program until it prints what is awaited.
SECONDS = int(os.environ.get("PATIENCE", 120))


def command_on_a_machine(*command):
    """Return the command that runs ``command`` on a machine of its own.

    Raises:
        LookupError: this kernel does not let us. The message says how to change that.
    """
    machine = [*UNSHARE, "sh", "-c", MACHINE, "sh"]
    try:
        subprocess.run([*machine, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise LookupError(
            "no namespaces for the guide's machine: needs Linux, util-linux, and on some systems "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
        ) from None
    return [*machine, *map(str, command)]


def play(pages, folder, wheels, patience=120, env=None):
    """Play pages one after the other on one machine, from an empty home folder.

    A page that says ``<!-- begins in: a clone -->`` begins in a clone of this project, installed.

    Args:
        pages (list[Path]): the pages.
        folder (Path): an empty folder for home, tools and report.
        wheels (Path): the packages that ``pip install`` finds; see ``fetch_packages``.
        patience (int): how long to wait for what is awaited, in seconds.
        env (dict): further variables of the reader. With PLAYED_BY, a test as in a note ``tested
            by``, the blocks with that note are played too.

    Returns:
        dict: for each page's name the number of ``blocks``, ``executed``, ``compared`` and
        ``elsewhere``, and lists of ``skipped`` and ``mistakes``.
    """
    tools, report = folder / "tools", folder / "report.json"
    (folder / "home").mkdir()
    if any(CLONE in page.read_text() for page in pages):
        copy_site(folder / "home" / "clone")
        (folder / "home" / "clone" / ".venv").symlink_to(BIN.parent)
    tools.mkdir()
    for name, install in (("redis-server", "redis-server"), ("redis-cli", "redis-server")):
        (tools / name).symlink_to(find_program(name, f"apt-get install {install}", [BIN]))
    find_program("curl", "apt-get install curl")
    python = f'#!/bin/sh\nexec {sys._base_executable} "$@"\n'
    (tools / "python3").write_text(python)
    (tools / "python3").chmod(0o755)
    command = [sys.executable, "-m", __spec__.name if __spec__ else "tests.docs.play"]
    command = command_on_a_machine(*command, folder, *pages)
    env = {
        **(env or {}),
        "HOME": str(folder / "home"),
        "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PATIENCE": str(patience),
        "TERM": "dumb",
        "PS1": "@@$? ",
        "PS2": "",
        "PROMPT_COMMAND": "stty -echo",  # some programs switch it on
        "PYTHONDONTWRITEBYTECODE": "1",
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    with open(folder / "output.txt", "w") as output:
        subprocess.run(command, cwd=ROOT, env=env, stdout=output, stderr=output)
    if not report.exists():
        raise AssertionError(f"The machine broke down:\n{(folder / 'output.txt').read_text()}")
    return json.loads(report.read_text())


def fetch_packages(pages, cache):
    """Fetch what the pages install, at the versions of Pipfile.lock, for a machine without network.

    Args:
        pages (list[Path]): the pages.
        cache (Path): a folder that lasts; what is in it is not fetched again.

    Returns:
        Path: a folder with wheels.
    """
    lock = json.loads((ROOT / "Pipfile.lock").read_text())
    locked = sorted(
        {name + p["version"] for s in ("default", "develop") for name, p in lock[s].items()}
    )
    lines = re.findall(r"^\$ pip install (.*)", "\n".join(p.read_text() for p in pages), re.M)
    wanted = sorted({word for line in lines for word in shlex.split(line)} - {"--quiet", "-q"})
    key = hashlib.sha256("\n".join([sys.version, *wanted, *locked]).encode()).hexdigest()[:16]
    wheels = cache / key
    if wanted and not wheels.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            constraints, made = Path(folder, "constraints.txt"), Path(folder, "wheels")
            constraints.write_text("\n".join(locked))
            pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", made]
            pip += ["--constraint", constraints, *wanted]
            done = subprocess.run(pip, capture_output=True, text=True)
            if done.returncode:
                raise AssertionError(f"The guide's packages do not come:\n{done.stderr}")
            with contextlib.suppress(OSError):  # another run was faster
                made.rename(wheels)
    return wheels


def at_home(text):
    """Return ``text`` with the home folder that pages print."""
    return text.replace(os.environ["HOME"], "/home/you")


class Terminal:
    """A shell on a real pseudo-terminal. ``output`` is what no block has claimed yet.

    Args:
        folder (Path): where the shell starts.
        terminals (dict[str, Terminal]): all that are open: they are read while this one waits.
    """

    def __init__(self, folder, terminals):
        self.output, self.running, self.status, self.terminals = "", None, 0, terminals
        options = ["--noprofile", "--norc", "--noediting", "-i"]
        self.shell = pexpect.spawn(
            "bash", options, cwd=folder, encoding="utf-8", codec_errors="replace",
            echo=False, dimensions=(50, 160),
        )  # fmt: skip
        self.wait_for(self.prompt, "the shell")

    @property
    def folder(self):
        return Path(f"/proc/{self.shell.pid}/cwd").resolve()

    def prompt(self):
        return PROMPT.search(self.output)

    def question(self):
        """Whether Python or the shell waits for a line."""
        return self.output.endswith((">>> ", "... ")) or self.prompt()

    def read(self, seconds=0.05):
        """Take what was printed. Returns whether there was something within so many seconds."""
        try:
            self.output += self.shell.read_nonblocking(65536, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return False
        self.output = self.output.replace("\r\n", "\n")
        return True

    def wait_for(self, condition, what):
        """Read until ``condition()`` returns something true, and return that."""
        deadline = time.monotonic() + SECONDS
        while True:
            for terminal in self.terminals.values():
                terminal.read(seconds=0)  # a program stands still when nobody reads what it prints
            if not self.read() and (found := condition()):
                return found
            if time.monotonic() > deadline:
                raise Mistake(f"{what} did not come in {SECONDS} s, but:\n{self.output[-3000:]}")

    def claim(self):
        """Return the output before the prompt, if there is one, and forget it."""
        text, self.output = self.output, ""
        if found := PROMPT.search(text):
            text, self.status = text[: found.start()], int(found[1])
        return at_home(text)

    def has_ended(self):
        """Whether what ran here has ended by itself, as a program does that somebody kills."""
        deadline = time.monotonic() + min(30, SECONDS)
        while not self.prompt() and time.monotonic() < deadline:
            self.read()
        return bool(self.prompt())

    def run(self, typed):
        """Type a command, or Ctrl-C, wait for the prompt, and return what was printed."""
        if typed == "^C":
            self.shell.sendcontrol("c")
        else:
            self.claim()
            self.shell.sendline(typed)
        self.wait_for(self.prompt, f"the end of {typed!r}")
        self.running = None
        return self.claim()

    def run_python(self, typed):
        """Type into a Python shell, wait for its prompt, and return what was printed."""
        for line in typed.split("\n"):
            self.output = ""
            self.shell.sendline(line)
            self.wait_for(self.question, f"the end of {typed!r}")
        if self.prompt():
            self.running = None
            return self.claim()
        text, self.output = self.output, ">>> "
        return at_home(text.removesuffix(">>> "))

    def expect(self, printed):
        """Wait until the running program prints what the page shows, from where it last was."""
        pattern, seen = pattern_of(printed), [""]

        def match():
            whole = self.output[: self.output.rfind("\n") + 1]
            seen[0] = normalise(at_home(whole))
            return pattern.match(seen[0]) or self.prompt()

        try:
            found = self.wait_for(match, "the output")
        except Mistake:
            raise Mistake(difference(printed, seen[0]) or "") from None
        if found.re is PROMPT:
            raise Mistake(f"{self.running!r} does not keep running, but ended:\n{self.output}")
        lines = found[0].count("\n")
        self.output = "".join(self.output.splitlines(keepends=True)[lines:])


class Reader:
    """Follows one page after the other, in as many terminals as they name."""

    def __init__(self, home):
        self.terminals, self.mistakes, self.home = {}, [], home

    def terminal(self, name):
        if name not in self.terminals:
            self.terminals[name] = Terminal(self.home, self.terminals)
        return self.terminals[name]

    def follow(self, block):
        """Do what a block says. Returns whether something was compared."""
        block.check()
        name, *words = block.notes.get("terminal", "main").split(", ")
        if "page" in block.notes:
            return self.look(block.notes["page"], block.text)
        if block.kind in ("console", "pycon"):
            if words not in ([], ["keeps running"]):
                raise Mistake(f"the note says {', '.join(words)!r}, which means nothing")
            steps = list(split(block.text, block.kind))
            act = self.type_commands if block.kind == "console" else self.type_python
            act(self.terminal(name), steps, bool(words))
            return any(printed.strip() not in ("", "...") for _, printed in steps)
        if path := block.notes.get("file", block.notes.get("end of")):
            file = self.terminal(name).folder / path
            if block.kind == "diff":
                file.write_text(changed(file.read_text(), block.text))
            elif "end of" in block.notes:
                gap = "\n\n" if path.endswith(".py") else "\n"
                file.write_text(file.read_text().rstrip("\n") + "\n" + gap + block.text)
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(block.text)
        return "from" in block.notes

    def compare(self, typed, printed, act):
        """Compare what ``act()`` returns with what the page prints."""
        tries = 3 if QUESTION.match(typed) else 1
        for _ in range(tries):
            text = difference(printed, act())
            if not text or typed == "exit()":  # which says goodbye in some versions of Python
                return
        self.mistakes.append(f"after {typed!r}:\n{text}")

    def type_commands(self, terminal, steps, keeps_running):
        for number, (typed, printed) in enumerate(steps):
            following = steps[number + 1][0] if number + 1 < len(steps) else None
            if typed is None:
                if not terminal.running:
                    raise Mistake("output without a command, and nothing runs in this terminal")
                terminal.expect(printed)
            elif terminal.running and typed != "^C" and not terminal.has_ended():
                raise Mistake(f"{terminal.running!r} still runs in this terminal: show ^C first")
            elif keeps_running and not following:
                terminal.claim()
                terminal.shell.sendline(typed)
                terminal.running = typed
                terminal.expect(printed)
            else:
                self.compare(typed, printed, lambda typed=typed: terminal.run(typed))
                if terminal.status and typed != "^C" and following != "echo $?":
                    self.mistakes.append(
                        f"{typed!r} ended with status {terminal.status}, "
                        "and no `$ echo $?` follows it"
                    )

    def type_python(self, terminal, steps, _):
        if not terminal.running:
            raise Mistake(
                "no Python shell runs in this terminal: open it first, with keeps running"
            )
        terminal.wait_for(terminal.question, "Python's prompt")
        for typed, printed in steps:
            self.compare(typed, printed, lambda typed=typed: terminal.run_python(typed))

    def look(self, note, printed):
        """Find the lines on a web page, signing in where the note names an account."""
        url, _, account = note.partition(" as ")
        browser = build_opener(HTTPCookieProcessor(cookies := CookieJar()))
        answer = browser.open(url, timeout=30)
        if account:
            name, _, password = account.partition(":")
            token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
            form = {"csrfmiddlewaretoken": token, "username": name, "password": password}
            answer = browser.open(answer.url, urlencode(form).encode(), timeout=30)
        text = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", answer.read().decode())
        text = " ".join(normalise(html.unescape(text)).split())
        place = 0
        for line in printed.splitlines():
            parts = " ".join(normalise(line).split()).split("...")
            found = re.compile(".*?".join(map(re.escape, parts))).search(text, place)
            if not found:
                raise Mistake(f"{line!r} is not on {url} after what was found before it:\n{text}")
            place = found.end()
        return True

    def close(self):
        """Stop what runs and close all terminals, as a reader who goes home."""
        while self.terminals:
            _, terminal = self.terminals.popitem()
            if terminal.running:
                terminal.shell.sendcontrol("c")
                terminal.wait_for(terminal.prompt, f"the end of {terminal.running!r}")
            terminal.shell.close(force=True)


def split(text, kind):
    """Yield what is typed and what is printed after it; None is typed before the first."""
    start, more = ("$ ", None) if kind == "console" else (">>> ", "... ")
    typed, printed = None, []
    for line in text.splitlines():
        if line.startswith(start) or line == "^C" or line == start.strip():
            if typed is not None or printed:
                yield typed, "\n".join(printed)
            typed, printed = line.removeprefix(start), []
        elif (
            typed is not None
            and not printed
            and (typed.endswith("\\") if more is None else (line + " ").startswith(more))
        ):
            typed += "\n" + (line if more is None else line[4:])
        else:
            printed.append(line)
    if typed is not None or printed:
        yield typed, "\n".join(printed)


def changed(text, diff):
    """Return ``text`` after a diff without line numbers; lines ``...`` part its hunks."""
    found = text.splitlines(keepends=True)
    for hunk in re.split(r"(?m)^\.\.\.\n", diff):
        lines = [line or " " for line in hunk.splitlines()]
        old, new = ([line[1:] + "\n" for line in lines if line[0] in mark] for mark in (" -", " +"))
        places = [n for n in range(len(found)) if found[n : n + len(old)] == old]
        if len(places) != 1:
            raise Mistake(
                f"the diff's lines do not stand in the file exactly once:\n{''.join(old)}"
            )
        found[places[0] : places[0] + len(old)] = new
    return "".join(found)


def main(folder, *paths):
    """On the machine: follow the pages and write the report."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where a shell started us with «&»
    report = {}
    for path in map(Path, paths):
        page, home = Page(path), os.environ["HOME"]
        reader = Reader(f"{home}/clone" if CLONE in page.text else home)
        counts = dict.fromkeys(("blocks", "executed", "compared", "elsewhere"), 0)
        entry = report[path.name] = {**counts, "skipped": [], "mistakes": []}
        for block in page.blocks:
            entry["blocks"] += 1
            began, place = time.monotonic(), f"{path.name}:{block.line}"
            reader.mistakes = []
            try:
                if reason := block.notes.get("not run"):
                    block.check()
                    entry["skipped"].append(f"{place}: {reason}")
                elif block.notes.get("tested by") not in (None, os.environ.get("PLAYED_BY")):
                    block.check()
                    entry["elsewhere"] += 1
                else:
                    entry["compared"] += reader.follow(block)
                    entry["executed"] += 1
            except (Mistake, OSError) as mistake:
                reader.mistakes.append(str(mistake))
            entry["mistakes"] += [f"{place}: {mistake}" for mistake in reader.mistakes]
            print(f"{place} {time.monotonic() - began:.1f} s", *reader.mistakes, flush=True)
        try:
            reader.close()
        except Mistake as mistake:
            entry["mistakes"].append(f"{path.name}, at its end: {mistake}")
        Path(folder, "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
