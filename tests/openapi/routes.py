"""Whether docs/openapi.yaml and the server's code have the same routes."""

import os
import re

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
DOCUMENT = os.path.join(ROOT, "docs", "openapi.yaml")
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
# What a path that is described starts with; all else is for apps and browsers.
DESCRIBED = r"/(?:api/|oauth/|metrics|healthz|\.well-known/oauth)"


def described():
    """Of each path its methods with their operations' names, and its place: `admin-socket`, `public-port`, or None."""
    with open(DOCUMENT, encoding="utf-8") as file:
        paths = yaml.safe_load(file)["paths"]
    found = {}
    for path, operations in paths.items():
        kept = {name.upper(): operation for name, operation in operations.items() if name in METHODS}
        places = {operation.get("x-only") for operation in kept.values()}
        assert len(places) == 1, f"{path}: one place for all of its methods"
        found[path] = ({method: operation["operationId"] for method, operation in kept.items()}, places.pop())
    return found


def sources():
    """The code without comments and tests."""
    for directory, _, files in os.walk(os.path.join(ROOT, "src")):
        for name in files:
            if name.endswith(".rs") and name != "tests.rs":
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    text = file.read().split("#[cfg(test)]\nmod tests")[0]
                yield re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)


def coded():
    """Paths as the code has them: in full, or up to what varies."""
    found = set()
    for text in sources():
        # `{}` is what a message puts in.
        found.update(re.findall(rf'"({DESCRIBED}[^"\s{{}}?]*)["?]', text))
        for root, words in re.findall(r'\("(/api/\w+)", (?:\w+ @ \()?((?:"\w+"(?: \| )?)+)', text):
            found.update(f"{root}/{word}" for word in re.findall(r"\w+", words))
        # `["", namespace, document, "automerge"]`, after a root that the file names.
        root = re.search(r'^const ROOT: &str = "(/api/\w+)";', text, re.MULTILINE)
        for parts in re.findall(r'\[""((?:, (?:"\w+"|\w+))*)\]', text) if root else []:
            names = [part.strip('"') if '"' in part else "{}" for part in parts.split(", ")[1:]]
            found.add("/".join([root[1], *names]))
    return found


def check():
    """Fails if the document lacks a route of the code; that it has none too many is seen on the wire."""
    paths = {re.sub(r"\{\w+\}", "{}", path) for path in described()}
    # Also what stands before a part that varies.
    known = paths | {path.split("/{}")[0] for path in paths} | {"/api/"}
    unknown = coded() - known
    assert not unknown, f"docs/openapi.yaml lacks {sorted(unknown)}"
    return len(paths)
