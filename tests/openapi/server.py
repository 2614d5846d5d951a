"""A server of its own, its two doors, and a way for tools that know no Unix sockets to its admin socket."""

import http.client
import os
import re
import signal
import socket
import subprocess
import threading

from admin_socket import AdminSocket

# An app on this machine needs no server of its own to say what it is.
SETTINGS = {
    "OWNER": "did:web:owner.example",
    "ACCESS__ALLOW_LOOPBACK_CLIENTS": "true",
    "LIMITS__AUTHENTICATE_PER_ADDRESS": "1000000",
}


class Server:
    """`serve --dev` on a data directory, with its owner's browser signed in."""

    def __init__(self, binary, directory):
        self.data, self.log = os.path.join(directory, "data"), os.path.join(directory, "log")
        command = [binary, "serve", "--dev", "--port", "0", "--data-dir", self.data]
        environment = {f"GROUNDMIST_SYNC_{name}": value for name, value in SETTINGS.items()}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        lines = [self.process.stdout.readline().decode() for _ in range(2)]
        link = re.search(r"(http://(\S+?))(/sign-in/\S+)", lines[1])
        assert link, f"no link: {lines}\n{self.text()}"
        self.origin, self.address, path = link.groups()
        answer = self.ask("POST", path, {"Origin": self.origin})
        assert answer.status == 303, answer.status
        self.cookie = answer.getheader("set-cookie").split(";")[0]

    def headers(self):
        """What the owner's page sends."""
        return {"Cookie": self.cookie, "Origin": self.origin}

    def ask(self, method, path, headers=None, body=None):
        """On the public port; the answer's head, and its body unread."""
        line = http.client.HTTPConnection(self.address, timeout=60)
        line.request(method, path, body, headers or {})
        return line.getresponse()

    def admin(self, method, path, body=None):
        """On the admin socket."""
        line = AdminSocket(os.path.join(self.data, "admin.sock"))
        line.request(method, path, body)
        return line.getresponse()

    def text(self):
        """Its log."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def stop(self):
        """As the system would; it must still run, and nothing in it have panicked."""
        ended = self.process.poll()
        assert ended is None, f"the server ended with {ended}\n{self.text()}"
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=60)
        assert code == 0, f"the server ended with {code}\n{self.text()}"
        assert "panicked" not in self.text(), self.text()

    def kill(self):
        """Whatever it does."""
        self.process.kill()
        self.process.wait()


def forward(path):
    """Passes on what comes to a TCP port to a Unix socket; the port's address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()

    def accept():
        while True:
            stream, _ = listener.accept()
            admin = socket.socket(socket.AF_UNIX)
            admin.connect(path)
            for pair in (stream, admin), (admin, stream):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return "http://127.0.0.1:%d" % listener.getsockname()[1]
