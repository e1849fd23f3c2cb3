"""A review answers its own page and nobody else, and nothing that is asked of it brings it down."""

import json
import random
import re
import socket
import string
import wave
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tagger.tags import genre as tags
from tests.review.rows import many_rows, row_for
from tests.review.serving import Served, serving
from tests.support.fakes import make_tone
from tests.support.reports import HOSTILE
from tests.support.songs import make_song


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secret-music") / "Ann" / "One"
    folder.mkdir(parents=True)
    for name in ("1.mp3", "2.flac", "3.opus", "4.wma", "5.wv"):
        if name.endswith(("mp3", "flac", "opus")):
            make_tone(folder / name, "Rock", 3)
        else:
            make_song(folder / name, seconds=3)
    return folder


@pytest.fixture(scope="module")
def served(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    rows = [row_for(path, starts_seconds=(1.0, 2.0)) for path in sorted(music.iterdir())]
    with serving(rows, tmp_path_factory.mktemp("state")) as running:
        yield running


PATHS = ("/", "/songs", "/news?revision=0&n_rewritten=0", "/changes", "/plan.csv", "/audio/0", "/preview/0",
         "/review.js", "/review.css", "/icon.svg", "/nothing")  # fmt: skip
POSTS = ("/decide", "/write", "/undo", "/close")


# Who is let in


def test_the_page_is_let_in(served: Served) -> None:
    for path in PATHS[:-1]:
        assert served.ask(path).status == 200, path
    assert served.ask("/nothing").status == 404


def test_the_cookie_is_for_this_page_alone(served: Served) -> None:
    token = served.server.address.partition("=")[2]
    answer = served.ask(f"/?token={token}", headers={"Cookie": None})
    parts = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert parts == {"httponly", "path=/", "samesite=strict"}
    assert len(token) >= 43  # 32 bytes
    assert token not in answer.text


def test_what_a_browser_is_opened_with_is_good_for_once(served: Served) -> None:
    path = served.server.address_for_once().partition(served.host)[2]
    answers = [served.ask(path, headers={"Cookie": None, "Sec-Fetch-Site": "none"}) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 403]
    cookie = answers[0].headers["set-cookie"].partition(";")[0]
    assert cookie == served.cookie and path.partition("=")[2] not in cookie


def test_every_start_has_another_token(served: Served, tmp_path: Path) -> None:
    with serving(many_rows(1), tmp_path) as other:
        assert other.server.address.partition("=")[2] != served.server.address.partition("=")[2]
        assert (
            other.ask("/songs", headers={"Cookie": f"genre-tag-{other.host[-5:]}={served.cookie[-43:]}"}).status == 403
        )


def refused(served: Served, path: str, headers: dict[str, str | None], method: str = "GET") -> int:
    """The status of a request that must not be answered, and must tell nothing."""
    answer = served.ask(path, method, {} if method == "POST" else None, headers)
    assert len(answer.body) < 100 and b"Rock" not in answer.body and b"Traceback" not in answer.body
    assert answer.headers["content-type"].startswith("text/plain")
    return answer.status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("cookie", [None, "", "genre-tag=x", "{name}=", "{name}=x", "{name}=\u00e9", "{name}x={token}"])
def test_without_its_cookie_nobody_is_let_in(served: Served, path: str, cookie: str | None) -> None:
    name, _, token = served.cookie.partition("=")
    given = None if cookie is None else cookie.format(name=name, token=token)
    assert refused(served, path, {"Cookie": given}) == 403


@pytest.mark.parametrize("path", POSTS)
def test_without_its_cookie_nothing_is_done(served: Served, path: str) -> None:
    assert refused(served, path, {"Cookie": None}, "POST") == 403


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "%00", "é", "../", "x&token=y"])
def test_a_wrong_token_gives_no_cookie(served: Served, token: str) -> None:
    answer = served.ask(f"/?token={token.encode().hex() if token == 'é' else token}", headers={"Cookie": None})
    assert answer.status == 403 and "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "localhost.evil:{port}",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "127.0.0.1:{port}@evil",
        "",
        "LOCALHOST:{port}.",
    ],
)
@pytest.mark.parametrize("path", ["/", "/songs", "/audio/0", "/?token={token}"])
def test_another_name_that_leads_here_is_refused(served: Served, host: str, path: str) -> None:
    """DNS rebinding: a page of evil.example whose name leads to this machine by now."""
    port, token = served.host.partition(":")[2], served.server.address.partition("=")[2]
    assert refused(served, path.format(token=token), {"Host": host.format(port=port)}) == 421


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "https://{host}",
        "http://127.0.0.1:1",
        "http://{host}.evil",
        "http://localhost:{port}",
        "",
        None,
    ],
)
@pytest.mark.parametrize("path", POSTS)
def test_another_site_can_do_nothing(served: Served, path: str, origin: str | None) -> None:
    """A form or a script of another page, to which the browser might add the cookie."""
    port = served.host.partition(":")[2]
    given = None if origin is None else origin.format(host=served.host, port=port)
    assert refused(served, path, {"Origin": given}, "POST") == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", PATHS)
def test_another_site_can_read_nothing(served: Served, path: str, site: str) -> None:
    """Another port of this machine is the same site to a browser, which sends the cookie there."""
    assert refused(served, path, {"Sec-Fetch-Site": site}) == 403
    assert refused(served, path, {"Origin": "http://127.0.0.1:1"}) == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_what_a_form_can_send_is_not_taken(served: Served, kind: str | None) -> None:
    assert (
        served.post("/decide", b'{"decisions": [[0, "accept"]], "source": "song"}', **{"Content-Type": kind}).status
        == 415
    )
    assert served.ask("/songs").json["songs"][0][7] == ""


@pytest.mark.parametrize("path", ["/", "/songs", "/audio/0", "/nothing", "/decide", "/review.js"])
@pytest.mark.parametrize("is_let_in", [True, False])
def test_every_answer_says_how_it_is_to_be_taken(served: Served, path: str, is_let_in: bool) -> None:
    headers = served.ask(path, headers={} if is_let_in else {"Cookie": None}).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {value for name, value in policy.items() if name in ("script-src", "style-src", "media-src")} == {"'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers and "server" not in headers


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    name, port = served.host.split(":")
    assert name == "127.0.0.1"
    for other in {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {
        "127.0.0.1"
    }:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((other, int(port)), timeout=2)


# What can be read


def test_songs_are_named_by_number_and_not_by_path(served: Served, music: Path) -> None:
    for path in ("/", "/songs", "/news?revision=0&n_rewritten=0", "/changes", "/nothing", "/audio/99"):
        assert str(music.parents[1]) not in served.ask(path).text, path
    assert served.ask("/songs").json["albums"] == [music.name]
    assert served.ask("/songs").json["songs"][0][:4] == [0, "1.mp3", [], ["Rock"]]


@pytest.mark.parametrize(
    "path",
    [
        "/audio/5",
        "/audio/99999999999999999999999",
        "/audio/-1",
        "/audio/1.5",
        "/audio/0x0",
        "/audio/",
        "/audio/0/",
        "/audio/..",
        "/audio/../../etc/passwd",
        "/audio/%2e%2e%2fetc%2fpasswd",
        "/audio/%2Fetc%2Fpasswd",
        "/audio/0%00",
        "//etc/passwd",
        "/etc/passwd",
        "/preview/5",
        "/preview/..%2f",
        "/audio/%D9%A1",
        "/review.py",
        "/page.html.j2",
    ],
)
def test_nothing_but_the_songs_of_this_review_can_be_read(served: Served, path: str) -> None:
    answer = served.ask(path)
    assert answer.status == 404 and len(answer.body) < 100


@pytest.mark.parametrize("what", ["other", "gone", "link", "folder"])
@pytest.mark.parametrize("path", ["/audio/0", "/preview/0"])
def test_another_file_in_the_place_of_a_song_is_not_read(tmp_path: Path, what: str, path: str) -> None:
    song = tmp_path / "song.mp3"
    make_tone(song, "Rock", 2)
    with serving([row_for(song)], tmp_path / "state") as running:
        assert running.ask(path).status == 200
        song.unlink()
        if what == "other":
            make_tone(song, "Blues", 3)
        elif what == "link":
            (tmp_path / "private").write_text("private" * 100)
            song.symlink_to(tmp_path / "private")
        elif what == "folder":
            song.mkdir()
        answer = running.ask(path)
        assert answer.status == 410 and b"private" not in answer.body


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    rows = many_rows(len(HOSTILE))
    names = [name.strip() for name in HOSTILE]
    hostile = [
        replace(row, path=f"/music/x/{name.replace('/', '_')}.mp3", old=(name,), proposed=(name,))
        for row, name in zip(rows, names, strict=True)
    ]
    with serving(hostile, tmp_path, title="</title><script>alert(1)</script>") as running:
        songs = running.ask("/songs")
        assert songs.headers["content-type"].startswith("application/json")
        assert all(each[1].isprintable() for each in songs.json["songs"])
        page = running.ask("/").text
        assert "<script>alert" not in page and "&lt;script&gt;alert" in page
        assert re.findall(r"<script[^>]*>", page) == ['<script src="/review.js" type="module">']
        assert " style=" not in page and not re.findall(r"\bon\w+=", page)


def test_the_page_asks_for_nothing_from_elsewhere(served: Served) -> None:
    for path in ("/", "/review.js", "/review.css", "/icon.svg"):
        text = served.ask(path).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+|url\(|@import|import\s*\(", text), path


# Playing


@pytest.mark.parametrize(("number", "kind"), [(0, "audio/mpeg"), (1, "audio/flac"), (2, "audio/ogg")])
def test_a_song_is_played_from_its_file(served: Served, music: Path, number: int, kind: str) -> None:
    data = sorted(music.iterdir())[number].read_bytes()
    answer = served.ask(f"/audio/{number}")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, kind, data)
    assert answer.headers["accept-ranges"] == "bytes"
    part = served.ask(f"/audio/{number}", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, data[10:20], f"bytes 10-19/{len(data)}")
    end = served.ask(f"/audio/{number}", headers={"Range": "bytes=-5"})
    assert (end.status, end.body) == (206, data[-5:])
    assert served.ask(f"/audio/{number}", "HEAD").body == b""


@pytest.mark.parametrize(
    "asked",
    ["bytes=999999999-", "bytes=5-1", "bytes=a-b", "bytes=", "bits=0-1", "bytes=-", "bytes=" + ",".join(["0-"] * 5000)],
)
def test_an_odd_range_is_answered_plainly(served: Served, asked: str) -> None:
    answer = served.ask("/audio/0", headers={"Range": asked})
    assert answer.status in (200, 206, 400, 416) and b"Traceback" not in answer.body


@pytest.mark.parametrize("number", [3, 4])
def test_what_browsers_cannot_play_is_a_preview(served: Served, number: int) -> None:
    assert served.ask(f"/audio/{number}").status == 415
    answer = served.ask(f"/preview/{number}?start=1.5")
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
    with wave.open(BytesIO(answer.body)) as file:
        assert file.getnchannels() == 2 and 1.2 <= file.getnframes() / file.getframerate() <= 1.7


@pytest.mark.parametrize("start", ["x", "nan", "inf", "-1", "1e9", ""])
def test_a_preview_begins_at_a_time(served: Served, start: str) -> None:
    assert served.ask(f"/preview/4?start={start}").status == 400


def test_a_song_that_cannot_be_decoded_is_a_plain_status(tmp_path: Path) -> None:
    (tmp_path / "a.wma").write_bytes(random.Random(0).randbytes(5000))
    with serving([row_for(tmp_path / "a.wma")], tmp_path / "state") as running:
        answer = running.ask("/preview/0")
        assert answer.status == 415 and answer.text.startswith("cannot be decoded")


# Deciding


def test_what_is_decided_is_kept_and_told(tmp_path: Path) -> None:
    with serving(many_rows(5), tmp_path) as running:
        revision = running.ask("/songs").json["revision"]
        assert running.decide((0, "accept"), (1, "reject"), (2, [" Free  Jazz", "Ska"])).status == 200
        news = running.ask(f"/news?revision={revision}&n_rewritten=0").json
        assert news["decisions"] == [[0, "accept", "song"], [1, "reject", "song"], [2, ["Free Jazz", "Ska"], "song"]]
        assert running.ask(f"/news?revision={news['revision']}&n_rewritten=0").json["decisions"] == []
        running.decide((0, ""), source="album")
        assert running.ask(f"/news?revision={news['revision']}&n_rewritten=0").json["decisions"] == [[0, "", "album"]]
    with serving(many_rows(5), tmp_path) as running:  # after a new start
        assert [each[7] for each in running.ask("/songs").json["songs"]] == ["", "reject", ["Free Jazz", "Ska"], "", ""]


BAD: list[Any] = [
    {}, [], None, 5, "x", {"decisions": [[0, "accept"]]}, {"source": "song"}, {"decisions": 5, "source": "song"},
    {"decisions": [[0, "accept"]], "source": "plan"}, {"decisions": [[0, "accept"]], "source": ["song"]},
    *({"decisions": [each], "source": "song"} for each in (
        5, [], [0], [0, "accept", 1], ["0", "accept"], [True, "accept"], [-1, "accept"], [5, "accept"], [0.0, "accept"],
        [10**30, "accept"], [0, "yes"], [0, None], [0, 5], [0, {}], [0, []], [0, [""]], [0, [5]], [0, ["x" * 201]],
        [0, [str(n) for n in range(21)]], [0, ["\ud800"]], [0, [["a"]]],
    )),
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=str)
def test_what_is_no_decision_is_refused_plainly(served: Served, body: Any) -> None:
    before = served.ask("/songs").json
    answer = served.post("/decide", json.dumps(body).encode())
    assert answer.status == 400 and answer.headers["content-type"].startswith("text/plain")
    assert b"Traceback" not in answer.body and len(answer.body) < 300
    assert served.ask("/songs").json == before


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b"[" + b" " * (4 << 20), 413), (b"NaN", 400)],
    ids=["empty", "torn", "no text", "deep", "large", "NaN"],
)
def test_what_is_no_json_is_refused_plainly(served: Served, body: bytes, status: int) -> None:
    assert served.post("/decide", body).status == status


@pytest.mark.parametrize(
    "query",
    [
        "",
        "revision=0",
        "revision=x&n_rewritten=0",
        "revision=-1&n_rewritten=0",
        "revision=1e3&n_rewritten=0",
        f"revision={10**30}&n_rewritten=0",
        "revision=0&n_rewritten=-1",
    ],
)
def test_odd_questions_for_news_are_refused_plainly(served: Served, query: str) -> None:
    assert served.ask(f"/news?{query}").status == 400


@pytest.mark.parametrize("path", [*PATHS[:-1], *POSTS])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET", "POST"])
def test_other_methods_are_refused_plainly(served: Served, path: str, method: str) -> None:
    if method != ("POST" if path in POSTS else "GET"):
        assert served.ask(path, method).status == 405


def test_what_is_no_http_at_all_ends_nothing(served: Served, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(0)
    name, port = served.host.split(":")
    for _ in range(60):
        noise = "".join(chance.choices(string.printable, k=chance.randrange(200))).encode()
        for data in (noise, b"GET /" + noise + b" HTTP/1.1\r\nHost: " + noise + b"\r\n\r\n"):
            with socket.create_connection((name, int(port)), timeout=10) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(10)
                assert b"Traceback" not in connection.recv(65_536)
    assert served.ask("/songs").status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_what_fails_within_is_a_plain_status(
    served: Served, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(served.review, "changes", fail)
    answer = served.ask("/changes")
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    assert "secret" not in capfd.readouterr().err


def test_decisions_that_cannot_be_kept_are_said_not_to_be(tmp_path: Path) -> None:
    with serving(many_rows(2), tmp_path) as running:
        database = running.review._decisions._database
        database.execute("PRAGMA query_only = 1")  # as on one that is read-only
        answer = running.decide((0, "accept"))
        assert answer.status == 507 and "readonly" in answer.text
        assert running.ask("/songs").json["songs"][0][7] == ""
        database.execute("PRAGMA query_only = 0")
        assert running.decide((0, "accept")).status == 200


# Writing and undoing


def test_what_is_decided_is_written_and_taken_back(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.flac" for number in range(4)]
    for number, path in enumerate(paths):
        make_tone(path, "Rock", 1 + number / 10)
    before = [path.read_bytes() for path in paths]
    with serving([row_for(path) for path in paths], tmp_path / "state") as running:
        running.decide((0, "accept"), (1, ["Jazz", "Ska"]), (2, "reject"), (3, "accept"))
        assert running.ask("/changes").json["changes"] == [[0, ["Rock"]], [1, ["Jazz", "Ska"]], [3, ["Rock"]]]
        paths[3].unlink()
        assert running.post("/write").status == 200
        job = running.finished_job()
        assert (job["n_songs"], job["n_done"], job["n_written"], job["error"]) == (3, 3, 2, "")
        assert job["failures"] == [[3, "no such file"]]
        assert [tags.read_genres(path) for path in paths[:3]] == [("Rock",), ("Jazz", "Ska"), ()]
        news = running.ask("/news?revision=0&n_rewritten=0").json
        assert (news["old"], news["undoable"]) == ([[0, ["Rock"]], [1, ["Jazz", "Ska"]]], job["run"])
        assert running.ask("/changes").json["changes"] == [[3, ["Rock"]]]
        assert running.post("/undo").status == 200
        job = running.finished_job()
        assert (job["kind"], job["n_songs"], job["n_done"], job["n_written"], job["failures"]) == ("undo", 2, 2, 2, [])
        assert [path.read_bytes() for path in paths[:3]] == before[:3]
        news = running.ask("/news?revision=0&n_rewritten=2").json
        assert (sorted(news["old"]), news["undoable"]) == ([[0, []], [1, []]], "")
    assert not list(tmp_path.glob("*.tmp"))
