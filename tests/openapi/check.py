"""docs/openapi.yaml against the server: the routes of its code, then schemathesis at both of its doors, then by hand what a fuzzer
cannot send or must not end its own run with.

python3 tests/openapi/check.py DIRECTORY_OF_PROGRAMS
"""

import collections
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile

import routes
from hooks import document_id
from server import Server, forward

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKS = ",".join((
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "use_after_free",
    "ignored_auth",
))
EXAMPLES, SEED = 50, 1
# They end the fuzzer's own sign-in, or are answered for ever.
LAST = {"revokeAllSessions", "signOut", "signOutEverywhere"}
ENDLESS = {"live"}


def fuzz(url, file, operations, headers=None, wanted=("200", "201")):
    """Fails if an answer is not as described, or an operation never had a wanted one."""
    phases = ["examples", "coverage", "fuzzing"] + ["stateful"] * (len(operations) > 3)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", os.path.join(HERE, "schemathesis.toml")]
    command += ["run", routes.DOCUMENT, "--url", url, "--checks", CHECKS, "--max-examples", str(EXAMPLES)]
    command += ["--seed", str(SEED), "--generation-database", "none", "--generation-with-security-parameters", "false"]
    command += ["--phases", ",".join(phases), "--continue-on-failure", "--no-color", "--warnings", "off"]
    for name, value in (headers or {}).items():
        command += ["--header", f"{name}: {value}"]
    for name in sorted(operations):
        command += ["--include-operation-id", name]
    # It leaves things where it works.
    with tempfile.TemporaryDirectory() as place, tempfile.NamedTemporaryFile("r", encoding="utf-8") as answers:
        environment = os.environ | {
            "AUTOMERGE_DOCUMENT": file,
            "ANSWERS": answers.name,
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"at {url}:\n{done.stdout}\n{done.stderr}"
        counts = collections.Counter(tuple(line.split()) for line in answers)
    undone = {name for name in operations if not any(counts[name, status] for status in wanted)}
    assert not undone, f"never {wanted} of {undone}: {counts}"
    print(re.search(r"\d+ generated[^\n]*", done.stdout)[0], *sorted({status for _, status in counts}))


def operations(place):
    """Names of what may be fuzzed at the page's door, or on the admin socket."""
    there = (names for names, only in routes.described().values() if only in (None, place))
    return {name for names in there for name in names.values()} - LAST - ENDLESS


def body(answer, status):
    """The JSON of an answer that has this status."""
    text = answer.read()
    assert answer.status == status, f"{answer.status}, not {status}: {text}"
    assert answer.getheader("content-type") == "application/json", answer.headers
    return json.loads(text)


def store(server, file):
    """Documents in two namespaces, two of them gone through the bin, and tokens."""
    with open(file, "rb") as source:
        document = source.read()
    for namespace in "dev.local", "xyz.example":
        for seed in range(1, 50):
            path = f"/api/documents/{namespace}/{document_id(seed)}/automerge"
            assert body(server.ask("POST", path, server.headers(), document), 200)["new"]
    for name in "laptop", "phone", "phone":
        token = json.dumps({"name": name, "namespace": "dev.local"})
        body(server.ask("POST", "/api/tokens", server.headers(), token), 201)


def methods(server):
    """Each path of the document is there, with the methods that it says and no other."""
    for path, (expected, only) in routes.described().items():
        path = path.replace("{namespace}", "dev.local").replace("{document}", document_id(1)).replace("{id}", "x")
        answers = []
        if only != "admin-socket":
            answers.append(server.ask("PATCH", path, server.headers()))
        if only != "page":
            answers.append(server.admin("PATCH", path))
        for answer in answers:
            assert body(answer, 405)["error"] == "method_not_allowed", path
            # HEAD goes with GET.
            allowed = set(answer.getheader("allow").split(", ")) - {"HEAD"}
            assert allowed == set(expected), f"{path} takes {allowed}, not {set(expected)}"


def raw(server, line):
    """Status of an answer to a request that no client library sends."""
    host, port = server.address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        head = "".join(f"{name}: {value}\r\n" for name, value in server.headers().items())
        stream.sendall(f"{line} HTTP/1.1\r\nHost: {server.address}\r\nConnection: close\r\n{head}\r\n".encode("latin-1"))
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


def by_hand(server):
    """What the page is told without end, and what is not there for it."""
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


def main():
    programs = os.path.abspath(sys.argv[1])
    print(f"{routes.check()} paths are described, the code has no other")
    with tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "document.automerge")
        data = os.path.join(directory, "data")
        subprocess.run([os.path.join(programs, "examples", "openapi_data"), data, file], check=True)
        server = Server(os.path.join(programs, "groundmist-sync"), directory)
        try:
            store(server, file)
            methods(server)
            odd(server)
            by_hand(server)
            fuzz(server.origin, file, operations("page"), server.headers())
            fuzz(server.origin, file, operations("admin-socket") - operations("page") - {"metrics"}, server.headers(), ["403"])
            fuzz(forward(os.path.join(data, "admin.sock")), file, operations("admin-socket"))
            fuzz(server.origin, file, {"revokeAllSessions"}, server.headers())
            fuzz(server.origin, file, {"signOutEverywhere"}, server.headers())
            assert body(server.ask("GET", "/api/me", server.headers()), 401)["error"] == "not_signed_in"
            server.stop()
            server = Server(os.path.join(programs, "groundmist-sync"), directory)
            fuzz(server.origin, file, {"signOut"}, server.headers())
            assert body(server.ask("GET", "/api/me", server.headers()), 401)["error"] == "not_signed_in"
            server.stop()
        finally:
            server.kill()


main()
