"""docs/openapi.yaml against the server: the routes of its code, answers by hand, then schemathesis at both of its doors.

python3 tests/openapi/check.py DIRECTORY_OF_PROGRAMS
"""

import os
import subprocess
import sys
import tempfile

import by_hand
import routes
import words
from fuzz import fuzz, operations
from server import Server, forward


def main():
    programs = os.path.abspath(sys.argv[1])
    print(f"{routes.check()} paths are described, the code has no other; {words.check()} codes of errors")
    with tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "document.automerge")
        data = os.path.join(directory, "data")
        subprocess.run([os.path.join(programs, "examples", "openapi_data"), data, file], check=True)
        server = Server(os.path.join(programs, "groundmist-sync"), directory)
        try:
            by_hand.store(server, file)
            by_hand.forget_roots(server)
            by_hand.methods(server)
            by_hand.odd(server)
            by_hand.bodies(server)
            by_hand.places(server)
            by_hand.delete(server)
            fuzz(server.origin, file, operations("public-port"), server.headers())
            # Not from a browser; /metrics is not even there.
            socket_only = operations("admin-socket") - operations("public-port") - {"metrics"}
            fuzz(server.origin, file, socket_only, server.headers(), ["403"])
            by_hand.delete(server)
            fuzz(forward(os.path.join(data, "admin.sock")), file, operations("admin-socket"))
            fuzz(server.origin, file, {"revokeAllSessions"}, server.headers())
            fuzz(server.origin, file, {"signOutEverywhere"}, server.headers())
            by_hand.is_signed_out(server)
            server.stop()
            server = Server(os.path.join(programs, "groundmist-sync"), directory)
            fuzz(server.origin, file, {"signOut"}, server.headers())
            by_hand.is_signed_out(server)
            server.stop()
        finally:
            server.kill()


main()
