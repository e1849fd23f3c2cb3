"""Who may ask anything of a review: the browser that was given its address, from its own page, and nobody else.

A page of another site can send requests to this machine, and have its own name lead here (DNS rebinding). So the name
that is asked for, the page that asks, and a cookie that was given for the token of the address are all looked at.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"  # nobody else's machine can reach it
NAMES = (HOST, "localhost")
TOKEN_BYTES = 32
#: Of every response: it loads nothing from elsewhere, is in no frame, is kept nowhere, and tells nobody where it was.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " media-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: Leads on to the page; a redirection would not be given the cookie where a link on another page led here.
ENTRY = (
    '<!doctype html><title>Review</title><link rel="icon" href="/icon.svg">'
    '<meta http-equiv="refresh" content="0; url=/">'
)
SAFE_METHODS = ("GET", "HEAD")


class Guard:
    """Lets through what the page of this review asks; everything else gets a plain status."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app, self._port = app, port
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._tickets: set[str] = set()
        self._hosts = {f"{name}:{port}" for name in NAMES}
        self._cookie = f"genre-tag-{port}"  # browsers tell ports apart in no other way

    @property
    def address(self) -> str:
        """What opens the review, in any browser of whoever knows it."""
        return f"http://{HOST}:{self._port}/?token={self._token}"

    def address_for_once(self) -> str:
        """What opens it once: for the command line of a browser, which other users of the machine can read."""
        self._tickets.add(ticket := secrets.token_urlsafe(TOKEN_BYTES))
        return f"http://{HOST}:{self._port}/?token={ticket}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        app = self._answer(scope) or self._app
        try:
            await app(scope, receive, send_with_headers)
        except Exception:  # which Starlette has answered with a plain status
            logger.debug("a request failed", exc_info=True)

    def _answer(self, scope: Scope) -> Response | None:
        """What is answered without asking the review; None where the review is to answer."""
        headers = Headers(scope=scope)
        if headers.get("host") not in self._hosts:
            return PlainTextResponse("This is not the address of the review.", 421)
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if token and scope["path"] == "/" and scope["method"] in SAFE_METHODS:
            if not self._is_known(token[0]):
                return PlainTextResponse("Open the address that genre-tag review has printed last.", 403)
            response = HTMLResponse(ENTRY)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
            return response
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Another page may not ask this.", 403)
        must_say = "origin" in headers or scope["method"] not in SAFE_METHODS
        if must_say and headers.get("origin") != f"http://{headers['host']}":
            return PlainTextResponse("Another page may not ask this.", 403)
        if not _is_same(_cookie(headers, self._cookie), self._token):
            return PlainTextResponse("Open the address that genre-tag review has printed.", 403)
        return None

    def _is_known(self, token: str) -> bool:
        ticket = next((each for each in self._tickets if _is_same(token, each)), "")
        self._tickets.discard(ticket)
        return bool(ticket) or _is_same(token, self._token)


def _cookie(headers: Headers, name: str) -> str:
    for part in "; ".join(headers.getlist("cookie")).split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return ""


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
