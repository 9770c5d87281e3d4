"""Requests as the web process reads them: as UTF-8, whatever their headers call it.

Facts this file relies on:
- Django looks a named charset up among all of Python's codecs while the request is made, before any middleware. Some of
  them are none of text (rot13), or read nothing (undefined), and what they raise is answered by the server, without a
  word. The same is true of a header's parameter that names a charset of its own (`a*=rot13''%41`).
- A form of ours is UTF-8, so is JSON (RFC 8259). `console.middleware.forms_in_utf8` refuses other forms in words.
"""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters


class Utf8Request(ASGIRequest):
    """Django's own, but for the charset."""

    def _set_content_type_params(self, meta: Any) -> None:
        line = str(meta.get("CONTENT_TYPE", ""))
        try:
            self.content_type, self.content_params = parse_header_parameters(line)
        except (LookupError, ValueError):
            self.content_type, self.content_params = line.partition(";")[0].strip().lower(), {"charset": "unreadable"}

    def parse_file_upload(self, META: Any, post_data: Any) -> Any:  # as Django names it
        try:
            return super().parse_file_upload(META, post_data)
        except (LookupError, UnicodeError) as exc:
            raise MultiPartParserError("A part of the form names a charset that no text has.") from exc
