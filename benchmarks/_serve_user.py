"""A client of tsm-serve for locust: posts a video, waits for the job, fetches the result."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from locust import HttpUser, constant, events, task

VIDEO = Path(os.environ["TSM_LOAD_VIDEO"])
ACCOUNT = Path(os.environ["TSM_LOAD_ACCOUNT"])
account = {"accepted": 0, "refused": 0, "done": 0, "lost": 0, "other": 0}


@events.quitting.add_listener
def _store(**_: object) -> None:
    ACCOUNT.write_text(json.dumps(account))


class Client(HttpUser):
    """Posts again as soon as it has a result, and a second after a refusal."""

    wait_time = constant(0)

    @task
    def job(self) -> None:
        """One video, from the upload to its segments."""
        began = time.perf_counter()
        query = {"name": VIDEO.name, "end": os.environ.get("TSM_LOAD_END", "5")}
        headers = {"Content-Type": "application/octet-stream"}
        with self.client.post(
            "/v1/jobs", VIDEO.read_bytes(), params=query, headers=headers, name="post", catch_response=True
        ) as reply:
            if reply.status_code == 429:
                account["refused"] += 1
                reply.success()
            elif reply.status_code != 202:
                account["other"] += 1
        if reply.status_code != 202:
            time.sleep(1.0)
            return
        account["accepted"] += 1
        job_id = reply.json()["id"]
        if self._result(job_id):
            account["done"] += 1
            elapsed = 1000 * (time.perf_counter() - began)
            self.environment.events.request.fire(
                request_type="JOB", name="job", response_time=elapsed, response_length=0, exception=None
            )
        else:
            account["lost"] += 1

    def _result(self, job_id: str) -> bool:
        state = "queued"
        while state in ("queued", "running"):
            state = self.client.get(f"/v1/jobs/{job_id}", params={"wait": "20"}, name="wait").json()["state"]
        reply = self.client.get(f"/v1/jobs/{job_id}/result", name="result")
        return state == "done" and bool(reply.json()["results"])
