"""schemathesis at one of the server's doors."""

import collections
import os
import re
import subprocess
import sys
import tempfile

import routes

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
EXAMPLES, SEED = 25, 1
# They end the fuzzer's own sign-in, or are answered for ever.
LAST = {"revokeAllSessions", "signOut", "signOutEverywhere"}
ENDLESS = {"live"}
# What cannot come to its end here, and what it is answered; the end of it is tested in tests/atproto.
# Root documents are forgotten at the first door; nobody offers any more.
OTHERWISE = {"forgetRoot": "404", "clientMetadata": "404", "signIn": "503", "publish": "409", "token": "400"}


def fuzz(url, file, operations, headers=None, wanted=("200", "201", "204", "303")):
    """Fails if an answer is not as described, or an operation never had a wanted one."""
    # Few operations have no links between them, with which schemathesis fails.
    phases = ["examples", "coverage", "fuzzing"] + ["stateful"] * (len(operations) > 10)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", os.path.join(HERE, "schemathesis.toml")]
    command += ["run", routes.DOCUMENT, "--url", url, "--checks", CHECKS, "--max-examples", str(EXAMPLES)]
    command += ["--seed", str(SEED), "--generation-database", "none", "--phases", ",".join(phases)]
    command += ["--generation-with-security-parameters", "false", "--continue-on-failure", "--no-color", "--warnings", "off"]
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
        done = subprocess.run(
            command, env=environment, cwd=place, capture_output=True, text=True, timeout=300, check=False
        )
        said = "\n".join(line[:500] for line in (done.stdout + done.stderr).splitlines())
        assert done.returncode == 0, f"at {url}:\n{said}"
        counts = collections.Counter(tuple(line.split()) for line in answers)
    for name in operations:
        fits = {OTHERWISE.get(name), *wanted}
        assert any(counts[name, status] for status in fits), f"{name} never answered {fits}: {counts}"
    print(re.search(r"\d+ generated[^\n]*", done.stdout)[0], *sorted({status for _, status in counts}))


def operations(place):
    """Names of what may be fuzzed at the page's door, or on the admin socket."""
    there = (names for names, only in routes.described().values() if only in (None, place))
    return {name for names in there for name in names.values()} - LAST - ENDLESS
