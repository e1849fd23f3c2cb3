"""A review that answers on this machine, and who asks it: a browser's requests, and others that should get nothing."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tagger.review.decisions import Decisions
from tagger.review.plan import Row
from tagger.review.server import Server
from tagger.review.session import Review
from tagger.tags.policies import WriteOptions


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Served:
    """A review that is running, and the headers that its own page sends."""

    review: Review
    server: Server
    cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.server.address).netloc

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    def ask(
        self, path: str, method: str = "GET", body: Any = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """What is answered to a request of the page, with other headers or (None) without."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent: dict[str, str | None] = {"Host": self.host, "Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        if method not in ("GET", "HEAD"):
            sent |= {"Origin": self.origin, "Content-Type": "application/json"}
        sent |= headers or {}
        name, port = self.host.split(":")
        connection = http.client.HTTPConnection(name, int(port), timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for key, value in sent.items():
            if value is not None:
                connection.putheader(key, value)
        connection.putheader("Content-Length", str(len(data or b"")))
        connection.endheaders(data)
        response = connection.getresponse()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return answer

    def post(self, path: str, body: Any = None, **headers: str | None) -> Answer:
        return self.ask(path, "POST", {} if body is None else body, headers)

    def decide(self, *decisions: tuple[int, Any], source: str = "song") -> Answer:
        return self.post("/decide", {"decisions": [list(each) for each in decisions], "source": source})

    def finished_job(self) -> dict[str, Any]:
        """The job when it is done."""
        for _ in range(600):
            job = self.ask("/news?revision=0&n_rewritten=0").json["job"]
            if not job["is_running"]:
                return dict(job)
            time.sleep(0.02)
        raise AssertionError("never done")


def login(served: Served) -> str:
    """The cookie that the address gives."""
    parts = urlsplit(served.server.address)
    answer = served.ask(f"{parts.path}?{parts.query}", headers={"Cookie": None, "Sec-Fetch-Site": "none"})
    assert answer.status == 200 and 'content="0; url=/"' in answer.text
    return answer.headers["set-cookie"].partition(";")[0]


@contextmanager
def serving(
    rows: list[Row], state: Path, options: WriteOptions | None = None, title: str = "~/Music", port: int = 0
) -> Iterator[Served]:
    """A review of these rows whose decisions are kept in the folder `state`, answered by a thread."""
    with Decisions(state / "decisions.sqlite3") as decisions:
        review = Review(rows, options or WriteOptions(), decisions, ["genre-tag", "review", title], title)
        server = Server(review, port)
        thread = threading.Thread(target=server.run)
        thread.start()
        served = Served(review, server)
        try:
            served.cookie = login(served)
            yield served
        finally:
            server.end()
            thread.join()
            review.close()


Serve = Callable[..., Served]
