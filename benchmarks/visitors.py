"""Who comes to the site under load: what Locust runs for `make load`.

https://docs.locust.io/en/stable/writing-a-locustfile.html
"""

import random
import re
import time

from locust import HttpUser, constant, task

ROW = re.compile(r'id="run-([0-9a-f-]+)".*?class="run-arguments">(.*?)</span>', re.S)
LIVE = re.compile(r'name="run" value="([^"]+)"')


class Reader(HttpUser):
    """Reads a page a second."""

    fixed_count = 10
    wait_time = constant(1)

    @task
    def read(self):
        page = self.client.get("/", name="list of posts")
        posts = re.findall(r'href="(/posts/[^"]+)"', page.text)
        self.client.get(random.choice(posts), name="post")


class Editor(HttpUser):
    """Starts a task that waits for a second, as for another server, and looks once a second."""

    fixed_count = 30

    def on_start(self):
        self.client.get("/accounts/login/", name="sign in")
        self.post("/accounts/login/", "sign in", username="demo", password="demo")

    def post(self, path, name, **fields):
        fields["csrfmiddlewaretoken"] = self.client.cookies["csrftoken"]
        return self.client.post(path, fields, headers={"HX-Request": "true"}, name=name)

    @task
    def work(self):
        number = random.randrange(10**9)
        began = time.perf_counter()
        fields = {"add-x": number, "add-y": 0, "add-seconds": 1}
        started = self.post("/tasks/run/add/", "start a task", **fields).text
        # Others start theirs at the same time, and the page shows the newest.
        for _ in range(20):
            ours = [id for id, arguments in ROW.findall(started) if str(number) in arguments]
            if ours:
                break
            started = self.client.get("/tasks/runs/", name="all runs").text
        else:
            return self.report(began, LookupError("the run is not among the newest"))
        asked = f"{ours[0]}."
        while asked:
            time.sleep(1)
            answer = self.client.get("/tasks/poll/", params={"run": asked}, name="poll")
            asked = next(iter(LIVE.findall(answer.text)), None)
        self.report(began)

    def report(self, began, exception=None):
        """Have Locust count a task that ended, or one that failed."""
        self.environment.events.request.fire(
            request_type="",
            name="task, from click to end",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            exception=exception,
        )
