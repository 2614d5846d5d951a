"""What schemathesis sends where a schema cannot say it: documents, some of them stored, and automerge's bytes, some damaged."""

import hashlib
import os

import schemathesis
from hypothesis import strategies as st

DIGITS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# Where documents are stored, and from what their ids are made.
NAMESPACES = ["dev.local", "xyz.example"]
STORED = range(1, 51)


def document_id(seed):
    """16 bytes in base58check, as automerge-repo writes them."""
    data = bytes([seed]) * 16
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = DIGITS[digit] + text
    return text


def damaged(document):
    """Cut off, or with one byte changed."""
    places = st.integers(0, len(document) - 1)
    cut = places.map(lambda place: document[:place])
    other = st.tuples(places, st.integers(0, 255)).map(
        lambda change: document[: change[0]] + bytes([change[1]]) + document[change[0] + 1 :]
    )
    return cut | other


def register(file, answers):
    """Called by schemathesis."""
    with open(file, "rb") as source:
        document = source.read()
    # Most are there.
    documents = st.integers(1, max(STORED) + 10).map(document_id)
    others = st.from_regex(r"[a-zA-Z]{1,9}(\.[a-z0-9]{1,9}){1,3}", fullmatch=True)
    known = st.sampled_from(NAMESPACES)
    schemathesis.openapi.format("namespace", st.one_of(known, known.map(str.upper), known, others))
    schemathesis.openapi.format("document-id", documents)
    schemathesis.openapi.format("document-place", documents.map("dev.local/{}".format))
    schemathesis.openapi.media_type("application/octet-stream", st.just(document) | damaged(document))

    @schemathesis.hook
    def before_call(context, case, kwargs):
        # An answer that sends on is an answer.
        kwargs["allow_redirects"] = False

    @schemathesis.hook
    def after_call(context, case, response):
        with open(answers, "a", encoding="utf-8") as log:
            log.write(f"{case.operation.definition.raw['operationId']} {response.status_code}\n")


if "AUTOMERGE_DOCUMENT" in os.environ:
    register(os.environ["AUTOMERGE_DOCUMENT"], os.environ["ANSWERS"])
