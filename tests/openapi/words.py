"""Whether docs/openapi.yaml has all the words that answers choose from: most of them come up in no test."""

import os
import re

import yaml

from routes import DOCUMENT, ROOT

# Schemas of the document, and the enums of the code that they are.
ENUMS = {
    "Decision": ("access/grant.rs", "Decision"),
    "AuditTrail/properties/events/items/properties/what": ("access/audit.rs", "What"),
    "RootDocument/properties/state": ("access/root_document/offers.rs", "RootState"),
    "Apps/properties/pending/items/properties/how": ("access/entering.rs", "Proof"),
    "Status/properties/listen/items/properties/spoken": ("listen/listeners.rs", "Spoken"),
    "Record/properties/state": ("web/admin/record.rs", "RecordState"),
}
# Whose refusals are the document's `Error`.
REFUSING = ("web/admin", "web/sign_in", "web/api.rs", "web/gate.rs", "web/live.rs", "web/body.rs")


def read(path):
    with open(os.path.join(ROOT, "src", path), encoding="utf-8") as file:
        return file.read().split("#[cfg(test)]")[0]


def files(path):
    """All of a directory, or the file."""
    whole = os.path.join(ROOT, "src", path)
    found = [os.path.join(directory, name) for directory, _, names in os.walk(whole) for name in names] or [whole]
    return [os.path.relpath(file, os.path.join(ROOT, "src")) for file in found if file.endswith(".rs")]


def variants(path, name):
    """As serde writes them."""
    text = re.search(rf"pub enum {name} \{{\n(.*?)\n\}}", read(path), re.DOTALL)[1]
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", word).lower() for word in re.findall(r"^    (\w+),$", text, re.MULTILINE)}


def check():
    """Fails if a word is missing, or nothing says it any more."""
    with open(DOCUMENT, encoding="utf-8") as file:
        schemas = yaml.safe_load(file)["components"]["schemas"]
    for place, enum in ENUMS.items():
        schema = schemas
        for name in place.split("/"):
            schema = schema[name]
        assert set(schema["enum"]) == variants(*enum), f"{place}: {set(schema['enum']) ^ variants(*enum)}"
    warnings = set(re.findall(r'warn\(\s*"(\w+)"', read("web/admin/warnings.rs")))
    # Those of single documents come with their words.
    warnings.update(re.findall(r'(?:TroubleKind::\w+ => \(\s*|code: )"(\w+)"', read("web/admin/openings.rs")))
    assert warnings == set(schemas["Warning"]["properties"]["code"]["enum"]), warnings
    codes = set(re.findall(r'Self::\w+\b.* => "(\w+)"', read("access/error.rs").split("pub enum Refused")[0]))
    for path in (path for place in REFUSING for path in files(place)):
        codes.update(re.findall(r'StatusCode::\w+,\s*"(\w+)"', read(path)))
    missing = codes - set(schemas["Error"]["properties"]["error"]["enum"])
    assert not missing, f"Error lacks {missing}"
    return len(codes)
