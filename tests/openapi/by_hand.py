"""By hand: what a fuzzer cannot send, or would not come back from."""

import http.client
import json
import socket

import routes
from hooks import NAMESPACES, STORED, document_id


def body(answer, status):
    """The JSON of an answer that has this status."""
    text = answer.read()
    assert answer.status == status, f"{answer.status}, not {status}: {text}"
    assert answer.getheader("content-type") == "application/json", answer.headers
    return json.loads(text)


def store(server, file):
    """Documents in two namespaces, and tokens."""
    with open(file, "rb") as source:
        document = source.read()
    for namespace in NAMESPACES:
        for seed in STORED:
            path = f"/api/documents/{namespace}/{document_id(seed)}/automerge"
            assert body(server.ask("POST", path, server.headers(), document), 200)["new"]
    for name in "laptop", "phone", "phone":
        token = json.dumps({"name": name, "namespace": "dev.local"})
        body(server.ask("POST", "/api/tokens", server.headers(), token), 201)


def delete(server):
    """Puts half of the documents into the bin, but for those that are gone for good."""
    for namespace in NAMESPACES:
        for seed in STORED[::2]:
            path = f"/api/documents/{namespace}/{document_id(seed)}"
            answer = server.ask("DELETE", path, server.headers())
            assert answer.status == 410 or "purge_at" in body(answer, 200)


def forget_roots(server):
    """Of the documents that an app's devices offered, the first stored one takes the place of one that is forgotten."""
    app = json.dumps({"client_id": "https://app.example/client-metadata.json", "namespace": "dev.local"})
    for seed in 2, 4:
        done = body(server.ask("POST", "/api/apps/forget-root", server.headers(), app), 200)
        assert done["forgotten"] == f"automerge:{document_id(seed)}", done
        assert done["next"] == f"automerge:{document_id(seed + 2)}", done


def methods(server):
    """Each path of the document is there, with the methods that it says and no other."""
    for path, (expected, only) in routes.described().items():
        path = path.replace("{namespace}", "dev.local").replace("{document}", document_id(1)).replace("{id}", "x")
        answers = []
        if only != "admin-socket":
            answers.append(server.ask("PATCH", path, server.headers()))
        if only != "public-port":
            answers.append(server.admin("PATCH", path))
        for answer in answers:
            assert body(answer, 405)["error"] == "method_not_allowed", path
            # HEAD goes with GET.
            allowed = set(answer.getheader("allow").split(", ")) - {"HEAD"}
            assert allowed == set(expected), f"{path} takes {allowed}, not {set(expected)}"


def raw(server, line, more="", text=""):
    """Status of an answer to a request that no client library sends."""
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        head = "".join(f"{name}: {value}\r\n" for name, value in server.headers().items())
        head = f"{line} HTTP/1.1\r\nHost: {server.address}\r\nConnection: close\r\n{head}{more}\r\n"
        stream.sendall((head + text).encode("latin-1"))
        answer = http.client.HTTPResponse(stream)
        answer.begin()
        return answer.status


def odd(server):
    """Paths, queries and methods that are badly written."""
    wrong = []
    for status, line in (
        (400, "DELETE /api/tokens/%zz"),
        (400, "DELETE /api/tokens/%ff"),
        (400, "DELETE /api/sessions/%"),
        (404, "DELETE /api/sessions/%00"),
        (404, "DELETE /api/sessions/"),
        (404, "DELETE /api/sessions/a/b"),
        (404, "DELETE /api/sessions/a%2fb"),
        (404, "GET /api/../etc/passwd"),
        (404, "GET /api//status"),
        (404, "GET /api/status/"),
        (404, "GET /api/documents/"),
        (400, "GET /api/documents//"),
        (404, "GET /api/documentss"),
        (400, "GET /api/documents/dev.local/%2e%2e"),
        (400, "GET /api/documents/%2e%2e/x"),
        (400, "GET /api/documents?limit=%zz"),
        (400, "GET /api/documents?limit=-1"),
        (400, "GET /api/documents?limit=99999999999999999999"),
        (400, "GET /api/documents?after=dev.local"),
        (400, "GET /api/documents?nonsense=1"),
        (200, "GET /api/documents?&&namespace=dev.local&"),
        (200, "GET /api/status?%"),
        (200, "GET /api/status?nonsense=%ff"),
        (405, "OPTIONS /api/status"),
        (405, "TRACE /api/status"),
        (405, "HEAD /api/status"),
        (405, "BREW /api/status"),
        (400, "GET /api/status?\x01"),
        (400, "G\x01T /api/status"),
        (404, "OPTIONS *"),
        (200, f"GET http://{server.address}/api/status"),
    ):
        found = raw(server, line)
        if found != status:
            wrong.append(f"{line!r} is answered with {found}, not {status}")
    assert not wrong, wrong


def bodies(server):
    """Bodies that are no object, too large, or announced to be."""
    token = '{"name": "a", "namespace": "xyz.example"}'
    for status, path, text in (
        (201, "/api/tokens", f" {token}\n"),
        (400, "/api/tokens", ""),
        (400, "/api/tokens", "null"),
        (400, "/api/tokens", '["a", "xyz.example", false, null]'),
        (400, "/api/tokens", f"{token} {token}"),
        (400, "/api/tokens", '{"name": "a", "name": "b", "namespace": "xyz.example"}'),
        (400, "/api/tokens", '{"name": "\xff", "namespace": "xyz.example"}'),
        (400, "/api/tokens", '{"a":' * 10_000),
        (400, "/api/apps/approve", '["https://app.example/c.json", "xyz.example"]'),
        (413, "/api/tokens", token + " " * 64 * 1024),
    ):
        found = raw(server, f"POST {path}", f"Content-Length: {len(text)}\r\n", text)
        assert found == status, f"{text[:60]!r} is answered with {found}, not {status}"
    line = f"POST /api/documents/dev.local/{document_id(1)}/automerge"
    assert raw(server, line, f"Content-Length: {(256 << 20) + 1}\r\n") == 413


def places(server):
    """What is told without end, and what is not there for the page or on the socket."""
    live = server.ask("GET", "/api/live", server.headers())
    assert (live.status, live.getheader("content-type")) == (200, "text/event-stream"), live.headers
    assert live.readline() == b"event: changed\n"
    live.close()
    for path in "/api/live", "/api/me", "/api/sign-out":
        assert body(server.admin("GET", path), 404)["error"] == "not_found"
    answer = server.ask("GET", "/metrics", server.headers())
    assert body(answer, 404)["error"] == "not_found"
    assert server.ask("GET", "/healthz").read() == b"ok\n"
    for headers, expected in (
        ({}, "cross_origin"),
        ({"Origin": server.origin}, "not_signed_in"),
        ({"Cookie": server.cookie}, "cross_origin"),
        ({"Cookie": server.cookie, "Origin": "null"}, "cross_origin"),
    ):
        answer = server.ask("POST", "/api/sign-out", headers)
        assert body(answer, 403 if expected == "cross_origin" else 401)["error"] == expected


def is_signed_out(server):
    """The cookie is of no use any more."""
    assert body(server.ask("GET", "/api/me", server.headers()), 401)["error"] == "not_signed_in"
