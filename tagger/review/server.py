"""The review in a browser: what the page asks for, each answered with plain values, a song, or a plain status."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tagger import __version__
from tagger.audio.preview import MEDIA_TYPES, excerpt_wav
from tagger.errors import AudioError, OutputError
from tagger.report.html import template_environment
from tagger.review.decisions import SOURCES
from tagger.review.guard import HOST, Guard
from tagger.review.plan import ACCEPT, REJECT, UNDECIDED, Choice, checked_genres, plan_text
from tagger.review.session import BusyError, Review
from tagger.tags.identity import identify
from tagger.text import printable

logger = logging.getLogger(__name__)

MOST_BODY_BYTES = 4 << 20  # decisions on a hundred thousand songs at once are 2 MB
ASSETS = {"review.js": "text/javascript", "review.css": "text/css", "icon.svg": "image/svg+xml"}
SHUTDOWN_SECONDS = 2  # for requests that are under way; the song that is being written has all it takes


class Site:
    """The answers to what the page of a review asks; the page is let in by a `Guard`."""

    def __init__(self, review: Review, port: int) -> None:
        self._review = review
        self._previews = threading.Semaphore(1)  # a decoder takes a core and much memory
        routes = [
            Route("/", self._page),
            *(Route(f"/{name}", partial(self._asset, name)) for name in ASSETS),
            Route("/songs", self._songs),
            Route("/news", self._news),
            Route("/changes", self._changes),
            Route("/plan.csv", self._plan),
            Route("/audio/{number:int}", self._audio),
            Route("/preview/{number:int}", self._preview),
            Route("/decide", self._decide, methods=["POST"]),
            Route("/write", self._write, methods=["POST"]),
            Route("/undo", self._undo, methods=["POST"]),
            Route("/close", self._close, methods=["POST"]),
        ]
        app = Starlette(routes=routes, exception_handlers=HANDLERS)
        app.router.redirect_slashes = False
        self.guard = Guard(app, port)
        self.close: Callable[[], None]  # what ends the server, which is made of this

    # --- what is read

    def _page(self, request: Request) -> Response:
        return Response(_page_html(printable(self._review.title)), media_type="text/html")

    def _asset(self, name: str, request: Request) -> Response:
        return Response(_asset(name), media_type=ASSETS[name])

    def _songs(self, request: Request) -> Response:
        return JSONResponse(self._review.songs())

    def _news(self, request: Request) -> Response:
        try:
            revision, n_rewritten = (int(request.query_params[name]) for name in ("revision", "n_rewritten"))
        except (KeyError, ValueError):
            raise HTTPException(400, "Which news?") from None
        if not 0 <= revision < 1 << 62 or n_rewritten < 0:
            raise HTTPException(400, "Which news?")
        return JSONResponse(self._review.news(revision, n_rewritten))

    def _changes(self, request: Request) -> Response:
        changes = [(number, list(map(printable, genres))) for number, genres in self._review.changes()]
        return JSONResponse({"changes": changes})

    def _plan(self, request: Request) -> Response:
        headers = {"Content-Disposition": 'attachment; filename="plan.csv"'}
        text = plan_text(Path("plan.csv"), self._review.rows)
        return Response(text.encode(), media_type="text/csv", headers=headers)

    def _audio(self, request: Request) -> Response:
        path = self._song(request)
        media_type = MEDIA_TYPES.get(path.suffix.lower())
        if media_type is None:
            raise HTTPException(415, "Browsers play no such files: ask for the preview.")
        return FileResponse(path, media_type=media_type)

    def _preview(self, request: Request) -> Response:
        path = self._song(request)
        try:
            start = float(request.query_params.get("start", 0))
            if not 0 <= start <= 1e6:
                raise ValueError("no time")
        except ValueError:
            raise HTTPException(400, "From when on?") from None
        try:
            with self._previews:
                return Response(excerpt_wav(path, start), media_type="audio/wav")
        except AudioError as error:
            logger.debug("%s", path, exc_info=True)
            raise HTTPException(415, printable(error.reason)) from None

    def _song(self, request: Request) -> Path:
        """The file of the song that is asked for by its number, if it is that song still."""
        number = request.path_params["number"]
        if number >= len(self._review.rows):
            raise HTTPException(404, "There is no such song in this review.")
        row = self._review.rows[number]
        try:
            if identify(row.path) == row.identity:
                return Path(row.path)
        except (OSError, ValueError):
            logger.debug("%s", row.path, exc_info=True)
        raise HTTPException(410, "The song is not there any more, or is another one.")

    # --- what is done

    async def _decide(self, request: Request) -> Response:
        choices, source = _choices(await _body(request), len(self._review.rows))
        await run_in_threadpool(self._review.decide, choices, source)
        return JSONResponse({"ok": True})

    def _write(self, request: Request) -> Response:
        return self._begin(self._review.write)

    def _undo(self, request: Request) -> Response:
        return self._begin(self._review.undo)

    def _begin(self, work: Any) -> Response:
        try:
            work()
        except BusyError:
            raise HTTPException(409, "Genres are being written: wait until that is done.") from None
        return JSONResponse({"ok": True})

    def _close(self, request: Request) -> Response:
        self.close()
        return JSONResponse({"ok": True})


async def _body(request: Request) -> Any:
    """What a request holds as JSON. A form of another page cannot send this type without being asked about."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Send JSON.")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MOST_BODY_BYTES:
            raise HTTPException(413, "That is too much at once.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise HTTPException(400, "That is no JSON.") from None


def _choices(values: Any, n_songs: int) -> tuple[list[tuple[int, Choice]], str]:
    """What is decided on which songs, `[[number, choice], …]`, and how that was taken."""
    try:
        if not isinstance(values, dict) or values.get("source") not in SOURCES:
            raise ValueError("not what is decided, and how")
        return [_choice(number, choice, n_songs) for number, choice in values["decisions"]], values["source"]
    except (KeyError, TypeError, ValueError) as error:
        raise HTTPException(400, f"That is no decision: {printable(str(error))[:200]}") from None


def _choice(number: Any, choice: Any, n_songs: int) -> tuple[int, Choice]:
    if type(number) is not int or not 0 <= number < n_songs:
        raise ValueError("no such song")
    if isinstance(choice, list) and all(isinstance(genre, str) for genre in choice):
        return number, checked_genres(choice)
    if choice not in (UNDECIDED, ACCEPT, REJECT):
        raise ValueError("neither accept nor reject nor genres")
    return number, choice


def _plainly(request: Request, error: Exception) -> Response:
    """A status with a sentence."""
    assert isinstance(error, HTTPException)
    return PlainTextResponse(error.detail, error.status_code, error.headers)


def _not_kept(request: Request, error: Exception) -> Response:
    """Why a decision could not be kept, or read again: the page says so, and tries again."""
    logger.debug("not kept", exc_info=error)
    return PlainTextResponse(printable(str(error)), 507)


HANDLERS: dict[Any, Any] = {HTTPException: _plainly, OutputError: _not_kept}


@cache
def _asset(name: str) -> str:
    return resources.files("tagger.review").joinpath(name).read_text(encoding="utf-8")


def _page_html(title: str) -> str:
    page = template_environment("tagger.review", printable).get_template("page.html.j2")
    return page.render(title=title, version=__version__)


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to who runs the server: some are not known here, and would break off what it is doing."""
        yield


class Server:
    """A review on this machine: `Server(review, port=0)` has its address, `run` answers until it is closed or ended."""

    def __init__(self, review: Review, port: int = 0) -> None:
        """Raises OutputError for a port that cannot be had; 0: one that is free."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, port))
            self._socket.listen()  # who asks before it runs has but to wait
        except OSError as error:
            self._socket.close()
            raise OutputError(f"{HOST}:{port}", error.strerror or str(error)) from error
        site = Site(review, self._socket.getsockname()[1])
        self.address, self.address_for_once = site.guard.address, site.guard.address_for_once
        self._server = _Uvicorn(
            uvicorn.Config(
                site.guard,
                access_log=False,
                log_level="critical",
                log_config=None,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        site.close = self.end

    def end(self) -> None:
        """Have `run` come to an end."""
        self._server.should_exit = True

    def run(self) -> None:
        """Answer until the page closes the review, or `end` is called."""
        with self._socket:
            self._server.run(sockets=[self._socket])
