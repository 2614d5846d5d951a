"""Reads what the server serves to monitoring with Prometheus' own parser, and compares it with docs/METRICS.md.

python3 tests/metrics_format.py BINARY
"""

import os
import re
import subprocess
import sys
import tempfile

from admin_socket import AdminSocket
from prometheus_client.parser import text_string_to_metric_families


def scrape(binary):
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        command = [binary, "serve", "--dev", "--port", "0", "--data-dir", data]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={}) as server:
            try:
                server.stdout.readline()
                admin = AdminSocket(os.path.join(data, "admin.sock"))
                admin.request("GET", "/metrics")
                answer = admin.getresponse()
                assert answer.status == 200, answer.status
                assert answer.getheader("content-type").startswith("text/plain; version=0.0.4")
                return answer.read().decode()
            finally:
                server.terminate()


def explained():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "docs", "METRICS.md"), encoding="utf-8") as page:
        return dict(re.findall(r"^\| `(groundmist_\w+)` \| (\w+) \|", page.read(), re.MULTILINE))


def main():
    families = list(text_string_to_metric_families(scrape(sys.argv[1])))
    # The parser takes the ending off a counter's name.
    found = {f.name + "_total" * (f.type == "counter"): f.type for f in families}
    assert found == explained(), set(found.items()) ^ set(explained().items())
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            assert sample.value >= 0, sample
    for histogram in (f for f in families if f.type == "histogram"):
        counts = [s.value for s in histogram.samples if s.name.endswith("_bucket")]
        total = [s.value for s in histogram.samples if s.name.endswith("_count")]
        assert counts == sorted(counts) and counts[-1:] == total, histogram.name
    print(f"{len(families)} metrics are as Prometheus wants them")


main()
