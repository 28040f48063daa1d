"""Who may talk to the server: the page itself, and nothing else that runs in the same browser.

The server listens on loopback, but any web page can make a browser send requests there. So the name that the browser
used must be a loopback name (a foreign name may be made to point here), the page that asks must be ours, and what a
request holds must be JSON, which other origins may not send. Nothing is loaded from anywhere, and no script runs but
those of this folder.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
MOST_BYTES = 500_000  # of a request
_MOST_DRAINED = 64_000_000  # of one that is too long, so that the browser reads the answer


class Guard:
    """Refuses what does not come from the page itself, and adds the headers that protect it."""

    def __init__(self, app: ASGIApp, port: int):
        self.app = app
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if problem := self._problem(scope["method"], scope["path"], Headers(scope=scope)):
            await JSONResponse({"error": problem}, 403)(scope, receive, send_safely)
            return
        body = await _body(receive)
        if body is None:
            text = f"the request has more than {MOST_BYTES:,} bytes; give the model a shorter text"
            await JSONResponse({"error": text}, 413)(scope, receive, send_safely)
            return
        await self.app(scope, _again(body, receive), send_safely)

    def _problem(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            return f"this is the playground of {min(self.hosts)}, not of another host"
        if origin is not None and origin.removeprefix("http://") != host:
            return "another web page must not use the playground"
        is_link = path == "/" and method == "GET"  # a link from elsewhere may open the page
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") and not is_link:
            return "another web page must not use the playground"
        if method == "POST" and headers.get("content-type", "").partition(";")[0] != "application/json":
            return "requests must hold JSON"
        return None


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too long."""
    body, size, is_more = b"", 0, True
    while is_more and size < _MOST_DRAINED:
        message = await receive()
        if message["type"] != "http.request":
            break
        size += len(message.get("body", b""))
        body = body + message.get("body", b"") if size <= MOST_BYTES else b""
        is_more = message.get("more_body", False)
    return body if size <= MOST_BYTES else None


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body`, then goes on as `receive` does."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return first.pop() if first else await receive()

    return receive_again
