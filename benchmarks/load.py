"""The site in containers under load, with 1, 2 and 4 worker hosts: `make load`.

Locust's visitors (visitors.py) read pages, start tasks that wait for a second, and ask how they go.
There are more of them than the workers can serve, so what comes out is what the workers can do.
Needs Docker. Takes about five minutes; SECONDS=… measures each number of hosts longer or shorter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.compose.stack import PRODUCTION, Stack, wait_slowly
from tests.services import ROOT

LOCUST = ROOT / ".venv" / "load" / "bin" / "locust"
HOSTS = (1, 2, 4)
TASKS = "task, from click to end"
SHOWN = (TASKS, "start a task", "poll", "list of posts", "post")
BAR = 3.6  # times the tasks of one host that four hosts do


def main(seconds):
    stack = Stack("docker-compose.yml", **PRODUCTION, DEBUG="false", HTTPS="false")
    try:
        stack.up()
        # The demo posts and their account, which a site without DEBUG does not get by itself.
        stack("run", "--rm", "-e", "DEBUG=true", "migrate", "python", "manage.py", "load_demo")
        print(f"{os.cpu_count()} cores for everything, load {os.getloadavg()[0]:.1f}; {seconds} s")
        print()
        measured = {hosts: measure(stack, hosts, seconds) for hosts in HOSTS}
    finally:
        stack.down()
    print(table(measured))
    gain = measured[4][TASKS]["rate"] / measured[1][TASKS]["rate"]
    print(f"\nFour hosts do {gain:.2f} times the tasks of one (bar: {BAR}).")
    failures = sum(figures["failures"] for side in measured.values() for figures in side.values())
    print(f"Requests that failed: {failures}.")
    return gain >= BAR and not failures


def measure(stack, hosts, seconds):
    """Return {what was asked for: its figures} with a number of worker hosts."""
    stack.up("--scale", f"worker={hosts}", "--no-recreate")
    command = [LOCUST, "--locustfile", Path(__file__).with_name("visitors.py"), "--headless"]
    command += ["--json", "--only-summary", "--loglevel", "ERROR", "--reset-stats"]
    command += ["--host", stack.url, "--users", "40", "--spawn-rate", "4"]
    command += ["--run-time", str(seconds + 10)]  # ten seconds are for the visitors to arrive
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise RuntimeError(f"Locust says nothing:\n{done.stderr}")
    entries = json.loads(done.stdout)
    waiting = "SELECT count(*) FROM tasklog_taskcall c LEFT JOIN django_celery_results_taskresult r"
    waiting += " USING (task_id) WHERE c.name LIKE '%add' AND r.status IS DISTINCT FROM 'SUCCESS'"
    wait_slowly(lambda: stack.sql(waiting) == [["0"]], "the last tasks", 120)
    return {entry["name"]: figures(entry) for entry in entries}


def figures(entry):
    """Return what is shown of an entry of Locust's statistics. Times in milliseconds."""
    times = sorted((int(time), count) for time, count in entry["response_times"].items())
    spent = entry["last_request_timestamp"] - entry["start_time"]
    return {
        "rate": entry["num_requests"] / spent,
        "median": percentile(times, 0.5),
        "p95": percentile(times, 0.95),
        "failures": entry["num_failures"],
    }


def percentile(times, part):
    left = part * sum(count for _, count in times)
    for time, count in times:
        left -= count
        if left <= 0:
            return time
    return 0


def table(measured):
    """Return a Markdown table: how many a second; median and 95th percentile in milliseconds."""
    lines = [["", *(f"{hosts} worker host{'s' * (hosts > 1)}" for hosts in measured)]]
    lines.append(["---"] * len(lines[0]))
    for name in SHOWN:
        cells = [side[name] for side in measured.values()]
        lines.append([f"{name}: a second", *(f"{cell['rate']:.1f}" for cell in cells)])
        times = (f"{cell['median']:,} / {cell['p95']:,}" for cell in cells)
        lines.append([f"{name}: ms, median / 95 %", *times])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


if __name__ == "__main__":
    sys.exit(0 if main(int(os.environ.get("SECONDS", 60))) else 1)
