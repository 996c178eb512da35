"""The last look at a document before it leaves the program.

`OutputValidator` holds what an export is about to write against the strict form of its schema,
line by line while it is streamed.
"""

from __future__ import annotations

import orjson

from exporter.contracts import surfaces
from exporter.contracts.schema import Checks, Violation, pointer, property_names
from exporter.errors import ContractViolation


class OutputValidator:
    """Checks the parts of one document of a surface, in the strict form of its schema.

    Every method raises ContractViolation with the place and the broken rule, never with a value:
    the sentence is meant to be sent to us. Keys of maps are names that people gave to their
    projects and models, so a place shows ``*`` for them.
    """

    def __init__(self, surface: str, version: int = 1) -> None:
        """Raises BadInput for a surface or a version that there is not."""
        self.surface = surfaces.find(surface, version)
        self._checks = Checks(self.surface, strict=True)
        self._is_good_row = self._checks.is_good_row
        self._rows = 0

    def head(self, document_head: bytes) -> None:
        """Check a JSON document, which may be the whole or have its rows left out (``[]``)."""
        self._check(None, document_head, "the document")

    def meta(self, line: bytes) -> None:
        """Check the first line of an NDJSON stream."""
        if self.surface.meta_definition is None:
            raise ValueError(f"{self.surface.label} has no meta line")
        self._check(self.surface.meta_definition, line, "the meta line")

    def row(self, line: bytes) -> None:
        """Check one row, with or without a line end. Rows are counted for the message."""
        self._rows += 1
        if not self._is_good_row(line):
            if self.surface.row_definition is None:
                raise ValueError(f"{self.surface.label} has no rows")
            self._check(self.surface.row_definition, line, f"row {self._rows}")

    def _check(self, definition: str | None, text: bytes, what: str) -> None:
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise self._violation(what, "is not JSON") from None
        first = next(self._checks.violations(definition, document), None)
        if first is not None:
            raise self._violation(what, f"breaks {first.rule} at {self._place(first)}")

    def _place(self, violation: Violation) -> str:
        known = property_names(self._checks.schema)
        shown = (s if isinstance(s, int) or s in known else "*" for s in violation.path)
        return pointer(tuple(shown)) or "its top"

    def _violation(self, what: str, problem: str) -> ContractViolation:
        return ContractViolation(self.surface.label, f"{what} {problem}")
