"""
The format of HAR 1.2 as a JSON schema, after "HTTP Archive (HAR) format" of the W3C's Web
Performance Working Group: what must be there, and of what kind it is. Names that begin with an
underscore are anybody's own; any other name is not allowed.
"""

from __future__ import annotations

import typing

_Schema = dict[str, typing.Any]

_TEXT: _Schema = {"type": "string"}
_COUNT: _Schema = {"type": "integer", "minimum": -1}
_TIME: _Schema = {"type": "number", "minimum": 0}
#: -1: it does not apply.
_OPTIONAL_TIME: _Schema = {"anyOf": [_TIME, {"const": -1}]}
_URI: _Schema = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+$"}
#: ISO 8601, as the format asks for it, with a zone.
_DATE: _Schema = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}


def _object(required: dict[str, _Schema], optional: dict[str, _Schema] | None = None) -> _Schema:
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {}), "comment": _TEXT},
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }


def _list(items: _Schema) -> _Schema:
    return {"type": "array", "items": items}


_NAMED = _object({"name": _TEXT, "value": _TEXT})
_PROGRAM = _object({"name": _TEXT, "version": _TEXT})
_COOKIE = _object(
    {"name": _TEXT, "value": _TEXT},
    {
        "path": _TEXT,
        "domain": _TEXT,
        "expires": {"anyOf": [_DATE, {"type": "null"}]},
        "httpOnly": {"type": "boolean"},
        "secure": {"type": "boolean"},
    },
)
_REQUEST = _object(
    {
        "method": _TEXT,
        "url": _URI,
        "httpVersion": _TEXT,
        "cookies": _list(_COOKIE),
        "headers": _list(_NAMED),
        "queryString": _list(_NAMED),
        "headersSize": _COUNT,
        "bodySize": _COUNT,
    },
    {"postData": _object({"mimeType": _TEXT}, {"text": _TEXT, "params": _list(_NAMED)})},
)
_RESPONSE = _object(
    {
        "status": {"type": "integer"},
        "statusText": _TEXT,
        "httpVersion": _TEXT,
        "cookies": _list(_COOKIE),
        "headers": _list(_NAMED),
        "content": _object(
            {"size": _COUNT, "mimeType": _TEXT},
            {"compression": {"type": "integer"}, "text": _TEXT, "encoding": _TEXT},
        ),
        "redirectURL": _TEXT,
        "headersSize": _COUNT,
        "bodySize": _COUNT,
    }
)
_ENTRY = _object(
    {
        "startedDateTime": _DATE,
        "time": _TIME,
        "request": _REQUEST,
        "response": _RESPONSE,
        "cache": _object({}),
        "timings": _object(
            {"send": _TIME, "wait": _TIME, "receive": _TIME},
            dict.fromkeys(("blocked", "dns", "connect", "ssl"), _OPTIONAL_TIME),
        ),
    },
    {"pageref": _TEXT, "serverIPAddress": _TEXT, "connection": _TEXT},
)
_PAGE = _object(
    {
        "startedDateTime": _DATE,
        "id": _TEXT,
        "title": _TEXT,
        "pageTimings": _object({}, {"onContentLoad": _OPTIONAL_TIME, "onLoad": _OPTIONAL_TIME}),
    }
)

HAR: _Schema = _object(
    {
        "log": _object(
            {"version": {"const": "1.2"}, "creator": _PROGRAM, "entries": _list(_ENTRY)},
            {"browser": _PROGRAM, "pages": _list(_PAGE)},
        )
    }
)
