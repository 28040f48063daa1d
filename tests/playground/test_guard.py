"""Attacks on the playground: other web pages, too much of everything, and an end in the middle."""

import http.client
import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.playground.conftest import serving


def asked(server, method="POST", path="/api/about", body=b"{}", **headers):
    """The status and text of a request with exactly these headers."""
    place = urlsplit(server.address)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
    usual = {"Host": place.netloc, "Content-Type": "application/json"}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host=True)
    for name, value in {**usual, **given, "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", ""])
def test_a_foreign_host_is_refused(solved, host):
    for method, path in (("GET", "/"), ("POST", "/api/about")):
        status, text, _ = asked(solved, method, path, Host=host)
        assert status in (400, 403), text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused(solved, origin):
    status, text, _ = asked(solved, Origin=origin)
    assert status == 403
    assert json.loads(text)["error"] == "another web page must not use the playground"


def test_the_page_itself_is_served(solved):
    place = urlsplit(solved.address).netloc
    assert asked(solved, Origin=f"http://{place}", Sec_Fetch_Site="same-origin")[0] == 200
    assert asked(solved, "GET", "/", b"", Sec_Fetch_Site="cross-site")[0] == 200  # a link from elsewhere
    assert asked(solved, Host=f"localhost:{place.partition(':')[2]}")[0] == 200


def test_other_sites_cannot_load_its_files(solved):
    assert asked(solved, "GET", "/static/main.js", b"", Sec_Fetch_Site="cross-site")[0] == 403
    assert asked(solved, "GET", "/static/main.js", b"", Sec_Fetch_Site="same-site")[0] == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_other_sites_may_send_is_refused(solved, kind):
    assert asked(solved, Content_Type=kind)[0] == 403


def test_every_answer_has_the_policy(solved):
    for method, path in (("GET", "/"), ("GET", "/static/main.js"), ("POST", "/api/about"), ("GET", "/nothing")):
        _, _, headers = asked(solved, method, path)
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/static/"]
)
def test_no_other_file_is_served(solved, path):
    assert asked(solved, "GET", path, b"")[0] == 404


def test_ten_megabytes_are_refused_in_words(solved):
    status, text = solved.post("read", {"text": "a" * 10_000_000})
    assert status == 413
    assert "give the model a shorter text" in json.loads(text)["error"]
    assert solved.json("read", text="a")["tokens"]


def test_fifty_requests_at_once_are_answered(solved):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: solved.json("read", text=f"text {i}")["total"], range(50)))
    assert answers == [solved.json("read", text=f"text {i}")["total"] for i in range(50)]


def test_a_reader_who_leaves_stops_the_stream(solved):
    place = urlsplit(solved.address)
    body = json.dumps({"text": "We", "count": 200}).encode()
    with socket.create_connection((place.hostname, place.port)) as connection:
        head = f"POST /api/continue HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert solved.json("about")["models"]


@pytest.mark.parametrize("path", ["continue", "about"])
def test_ctrl_c_ends_it_at_once(path, slow_questions):
    with serving(slow_questions) as server:
        place = urlsplit(server.address)
        body = json.dumps({"text": "We", "count": 200}).encode()
        with socket.create_connection((place.hostname, place.port)) as connection:
            head = f"POST /api/{path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            connection.recv(100)
            server.process.send_signal(signal.SIGINT)
            said = server.process.communicate(timeout=60)[0]
            rest = b"".join(iter(lambda: connection.recv(10_000), b""))
        assert b'"end"' not in rest  # of the 200 tokens
        assert server.process.returncode == 0
        assert said.strip() == "the playground has ended"
