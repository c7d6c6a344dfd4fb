"""Requests generated from an application's OpenAPI document: valid ones, and every kind of wrong one we can think of.

Everything is derived from the document in a fixed order, so that two runs ask the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, quote_from_bytes, unquote

from tests.equality.driving import End, Request

Schema = Mapping[str, Any]

HUGE = "9" * 5000
"""More digits than Python turns into an integer."""

VALUES = (
    "",
    "0",
    "-1",
    "7",
    "+7",
    " 7 ",
    "07",
    "7.0",
    "7.5",
    "1e3",
    "1_000",
    "٣",
    "9223372036854775808",
    "9" * 60,
    HUGE,
    "nan",
    "NaN",
    "Infinity",
    "-inf",
    "true",
    "False",
    "on",
    "null",
    "None",
    "ä€😀",
    "a b",
    "a,b",
    "a\x00b",
    "2026-11-24",
    "2026-11-24T03:00:00Z",
    "12:30",
    "P1DT2H",
    "urn:uuid:7f6c1e2e-6c54-4b9e-9b9e-6a3d5f2b1c00",
    "{}",
    "[1]",
    "x" * 300,
)
"""Texts for parameters of whatever type."""

RAW = (b"%ff%fe", b"%00", b"%", b"%zz", b"%2B", b"+", b"%25", b"%C3", b"\xff")
"""Percent-encodings of parameters as they may arrive, good and bad."""

JSON_TEXTS: tuple[tuple[str, bytes], ...] = (
    ("empty", b""),
    ("blank", b" \r\n\t "),
    ("cut", b'{"a": '),
    ("word", b"nul"),
    ("single quotes", b"{'a': 1}"),
    ("trailing comma", b"[1,]"),
    ("trailing garbage", b"{} {}"),
    ("comment", b"{} // no"),
    ("null", b"null"),
    ("true", b"true"),
    ("number", b"1"),
    ("string", b'"text"'),
    ("list", b"[]"),
    ("object", b"{}"),
    ("NaN", b"NaN"),
    ("infinities", b"[Infinity, -Infinity, NaN]"),
    ("too big a float", b"1e400"),
    ("huge integer", b"[123456789012345678901234567890]"),
    ("too huge an integer", HUGE.encode()),
    ("negative zero", b"[-0, -0.0, 0E-5]"),
    ("leading zero", b"01"),
    ("plus", b"+1"),
    ("deep", b"[" * 200 + b"]" * 200),
    ("too deep", b"[" * 100_000 + b"]" * 100_000),
    ("deep and open", b'{"a":' * 5000),
    ("byte order mark", b"\xef\xbb\xbf{}"),
    ("UTF-16", '{"a": 1}'.encode("utf-16")),
    ("UTF-16 without mark", '{"a": 1}'.encode("utf-16-le")),
    ("UTF-32", '{"a": 1}'.encode("utf-32")),
    ("not UTF-8", b'{"a": "\xff"}'),
    ("overlong", b'"\xc0\xaf"'),
    ("encoded surrogate", b'"\xed\xa0\x80"'),
    ("lone surrogate", b'{"name": "\\ud800"}'),
    ("surrogate pair", b'"\\ud83d\\ude00"'),
    ("control character", b'"a\nb"'),
    ("escaped zero", b'"\\u0000"'),
    ("bad escape", b'"\\x41"'),
    ("form feed", b"\x0c{}"),
    ("no-break space", b"\xc2\xa0{}"),
)
"""Bodies, with names."""

CONTENT_TYPES: tuple[bytes | None, ...] = (
    None,
    b"",
    b"application/json",
    b"APPLICATION/JSON",
    b"application/json; charset=utf-8",
    b"application/json;charset=latin-1",
    b"application/json ;;",
    b" application/json",
    b"application/vnd.api+json",
    b"application/json+xml",
    b"application/xjson",
    b"application/json, text/plain",
    b"text/json",
    b"text/plain",
    b"json",
    b"/",
    b"application/",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data",
    b"multipart/form-data; boundary=",
    b"multipart/form-data; boundary=absent",
    b"\xff\xfe",
)

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "QUERY", "get", "", "BREW")

WRONG: tuple[object, ...] = (
    None,
    True,
    0,
    1,
    -7,
    2**63,
    10**30,
    1.0,
    1.5,
    "",
    "1",
    "1.5",
    "true",
    "text",
    "ä€😀",
    [],
    [1],
    ["a", None],
    {},
    {"x": 1},
)
"""Values for members of a JSON body, whatever their type."""

TEXTS_BY_FORMAT = {
    "uuid": "7f6c1e2e-6c54-4b9e-9b9e-6a3d5f2b1c00",
    "date": "2026-11-24",
    "date-time": "2026-11-24T03:00:00+01:00",
    "time": "03:00:00",
    "duration": "P1DT2H",
    "email": "who@example.org",
    "uri": "https://example.org/a?b=c",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "binary": "content",
    "json-string": "{}",
}


class Examples:
    """Values that fit the schemas of one OpenAPI document, as far as the schemas say."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def resolve(self, schema: Schema) -> Schema:
        """Return the schema that a reference names; another schema as it is."""
        while "$ref" in schema:
            found: Any = self._document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = found
        return schema

    def value(self, schema: Schema, *, whole: bool = True, depth: int = 0) -> Any:
        """Return a value of this schema. whole: with members that may be missing."""
        schema = self.resolve(schema)
        for key in ("const", "default", "example"):
            if schema.get(key) is not None:
                return schema[key]
        for key in ("enum", "examples"):
            if isinstance(schema.get(key), list) and schema[key]:
                return schema[key][0]
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self.value(schema[key][0], whole=whole, depth=depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = kind[0]
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, whole=whole, depth=depth)
        if kind == "array":
            return self._array(schema, whole=whole, depth=depth)
        return self._scalar(schema, kind)

    def _object(self, schema: Schema, *, whole: bool, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        wanted = [name for name in properties if name in required or (whole and depth < 4)]
        made = {name: self.value(properties[name], whole=whole, depth=depth + 1) for name in wanted}
        more = schema.get("additionalProperties")
        if not properties and isinstance(more, dict):
            made["1"] = self.value(more, whole=whole, depth=depth + 1)
        return made

    def _array(self, schema: Schema, *, whole: bool, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.value(each, whole=whole, depth=depth + 1) for each in schema["prefixItems"]]
        count = max(schema.get("minItems", 0), 1 if depth < 4 else 0)
        return [self.value(schema.get("items", {}), whole=whole, depth=depth + 1)] * count

    def _scalar(self, schema: Schema, kind: str | None) -> Any:
        if kind in ("integer", "number"):
            return _number(schema)
        if kind == "boolean":
            return True
        if kind == "null":
            return None
        if kind is None:
            return {"any": [1, "thing"]}
        text = TEXTS_BY_FORMAT.get(schema.get("format", ""), "text")
        if schema.get("pattern") == "^fixedquery$":
            text = "fixedquery"
        length = max(len(text), schema.get("minLength", 0))
        return text.ljust(length, "x")[: schema.get("maxLength", length)]


def _number(schema: Schema) -> Any:
    step = schema.get("multipleOf", 1)
    least = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    most = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    value = step * 3
    if not least < value < most:
        value = least + step if least > -math.inf else most - step
    return int(value) if schema.get("type") == "integer" or value == int(value) else value


def text(value: object) -> str:
    """Return a value as a parameter carries it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation: its place, its name, texts that are valid, and whether it must be there."""

    place: str
    name: str
    texts: tuple[str, ...]
    is_required: bool


class Operation:
    """One operation of an OpenAPI document, and the requests to it."""

    def __init__(self, path: str, method: str, described: Mapping[str, Any], examples: Examples) -> None:
        self._path = path
        self._method = method.upper()
        self._examples = examples
        self._parameters = [self._parameter(each) for each in described.get("parameters", [])]
        content = examples.resolve(described.get("requestBody", {})).get("content", {})
        self._media_type: str | None = next(iter(content), None)
        self._schema: Schema = content[self._media_type].get("schema", {}) if content else {}

    def _parameter(self, described: Mapping[str, Any]) -> Parameter:
        described = self._examples.resolve(described)
        value = self._examples.value(described.get("schema", {}))
        values = value if isinstance(value, list) else [value]
        return Parameter(
            described["in"], described["name"], tuple(text(each) for each in values), bool(described.get("required"))
        )

    def requests(self) -> Iterator[Request]:
        """Yield the requests to this operation."""
        yield self.request("valid")
        yield self.request("only what is required", {each: None for each in self._parameters if not each.is_required})
        for parameter in self._parameters:
            yield from self._of_parameter(parameter)
        yield from self._of_query()
        yield from self._of_cookies()
        yield from self._of_path()
        yield from self._of_method()
        yield from self._of_body()

    def request(
        self,
        label: str,
        values: Mapping[Parameter, Sequence[str | bytes] | None] | None = None,
        body: tuple[bytes | None, bytes] | None = None,
        **changes: Any,
    ) -> Request:
        """Return a valid request with other values for some parameters, or without some, and with another body.

        A text is encoded as its place asks; bytes are taken as they are.
        """
        chosen: dict[Parameter, Sequence[str | bytes] | None] = {each: each.texts for each in self._parameters}
        chosen.update(values or {})
        raw_path = self._raw_path(chosen)
        content_type, content = self.body(self._examples.value(self._schema)) if body is None else body
        if content_type is not None:
            content_fields: tuple[tuple[bytes, bytes], ...] = ((b"content-type", content_type),)
        else:
            content_fields = ()
        made = Request(
            label=f"{self._method} {self._path}: {label}",
            method=self._method,
            path=unquote(raw_path.decode("latin-1")),
            raw_path=raw_path,
            query=b"&".join(_pairs(chosen, "query")),
            headers=(*content_fields, *_header_fields(chosen)),
            body=(content,),
        )
        return replace(made, **changes)

    def _raw_path(self, chosen: Mapping[Parameter, Sequence[str | bytes] | None]) -> bytes:
        raw = quote(self._path, safe="/{}:").encode()
        for parameter, values in chosen.items():
            if parameter.place == "path":
                value = (values or [""])[0]
                given = value if isinstance(value, bytes) else quote(value, safe="/").encode()
                for name in (parameter.name, f"{parameter.name}:path"):
                    raw = raw.replace(b"{%s}" % name.encode(), given)
        return raw

    def body(self, value: object) -> tuple[bytes | None, bytes]:
        """Return the content type and the content of a body with this value; none if the operation takes none."""
        if self._media_type is None:
            return None, b""
        if self._media_type == "application/x-www-form-urlencoded":
            return self._media_type.encode(), _urlencoded(value)
        if self._media_type == "multipart/form-data":
            return b"multipart/form-data; boundary=limit", _multipart(value, self._files())
        return self._media_type.encode(), json.dumps(value, ensure_ascii=False).encode()

    def _files(self) -> set[str]:
        properties = self._examples.resolve(self._schema).get("properties", {})
        found = set()
        for name, schema in properties.items():
            choices = [schema, *schema.get("anyOf", [])]
            choices += [each["items"] for each in choices if "items" in each]
            if any(each.get("format") == "binary" or "contentMediaType" in each for each in choices):
                found.add(name)
        return found

    def _of_parameter(self, parameter: Parameter) -> Iterator[Request]:
        where = f"{parameter.place} {parameter.name}"
        for value in VALUES:
            yield self.request(f"{where} = {value[:40]!r}", {parameter: [value]})
        if parameter.place in ("path", "query"):
            for raw in RAW:
                yield self.request(f"{where} = {raw!r}", {parameter: [raw]})
        if parameter.place == "path":
            yield self.request(f"{where} with slashes", {parameter: ["a/b/"]})
            yield self.request(f"{where} with encoded slash", {parameter: [b"a%2Fb"]})
            return
        yield self.request(f"{where} missing", {parameter: None})
        yield self.request(f"{where} twice", {parameter: [*parameter.texts, "7"]})
        yield self.request(f"{where} thrice", {parameter: ["1", "b", ""]})
        yield self.request(f"{where} as bytes", {parameter: [b"\xff\xfe"]})

    def _of_query(self) -> Iterator[Request]:
        valid = self.request("").query
        for extra in (
            b"",
            b"&",
            b"&&x",
            b"&x=1&x=2",
            b"&=",
            b"&=1",
            b";y=1",
            b"&%ff=%fe",
            b"&__proto__=1",
            b"&x[]=1",
            b"#a",
        ):
            yield self.request(f"query with {extra!r}", query=valid + extra)
        if valid:
            yield self.request("query from another one", query=b"?" + valid)
            yield self.request("query in upper case", query=valid.upper())
            yield self.request("query separated by semicolons", query=valid.replace(b"&", b";"))
            yield self.request("query with a plus", query=valid.replace(b"=", b"=+"))

    def _of_cookies(self) -> Iterator[Request]:
        name = next((each.name for each in self._parameters if each.place == "cookie"), "")
        if not name:
            return
        for cookie in (
            "{0}",
            "{0}=",
            "={0}",
            "{0}=1;{0}=2",
            " {0} = 1 ",
            '{0}="a\\"b"',
            "{0}=a=b; ;",
            "{0}=%20ä",
            "$Path=1; {0}=1",
        ):
            value = cookie.format(name).encode()
            base = self.request("", {each: None for each in self._parameters if each.place == "cookie"})
            yield replace(base, label=f"{base.label}cookie {cookie!r}", headers=(*base.headers, (b"cookie", value)))
            two = (*base.headers, (b"cookie", b"other=1"), (b"cookie", value))
            yield replace(base, label=f"{base.label}cookie field twice, {cookie!r}", headers=two)

    def _of_path(self) -> Iterator[Request]:
        valid = self.request("")
        for label, path in (
            ("slash toggled", valid.path[:-1] if valid.path.endswith("/") else valid.path + "/"),
            ("two slashes before", "/" + valid.path),
            ("two slashes after", valid.path + "//"),
            ("upper case", valid.path.upper()),
            ("dots", valid.path + "/../"),
            ("newline", valid.path + "\n"),
            ("cut", valid.path[:-1]),
            ("without slash", valid.path[1:]),
            ("empty", ""),
        ):
            yield replace(valid, label=f"{valid.label}path, {label}", path=path, raw_path=path.encode())
        for root in ("/root", "/", valid.path, valid.path.rpartition("/")[0]):
            yield replace(valid, label=f"{valid.label}root_path {root!r}", scope={"root_path": root})
            rooted = {"root_path": root, "path": root + valid.path}
            yield replace(valid, label=f"{valid.label}root_path {root!r} in path", scope=rooted)
        toggled = valid.path[:-1] if valid.path.endswith("/") else valid.path + "/"
        for host in ((), ((b"host", b""),), ((b"host", b"other.example:8443"),), ((b"host", b"\xff"),)):
            for scheme in ("http", "https"):
                fields = [*host, *valid.headers]
                scope = {"headers": fields, "scheme": scheme, "path": toggled, "query_string": b"a=1&%20"}
                yield replace(valid, label=f"{valid.label}slash toggled for host {host} by {scheme}", scope=scope)

    def _of_method(self) -> Iterator[Request]:
        valid = self.request("")
        for method in METHODS:
            if method != self._method:
                yield replace(valid, label=f"{valid.label}by {method!r}", method=method)
        scopes: list[dict[str, Any]] = [
            {"http_version": "1.0"},
            {"http_version": "2"},
            {"asgi": {"version": "3.0"}},
            {"asgi": {"version": "3.0", "spec_version": "2.0"}},
            {"client": None, "server": None},
            {"raw_path": None},
            {"state": None},
            {"extensions": {"http.response.debug": {}, "http.response.pathsend": {}, "http.response.trailers": {}}},
            {"headers": []},
            {"headers": [[b"host", b"example.org"], *map(list, valid.headers)]},
            {"foreign": {"key": "value"}},
        ]
        for scope in scopes:
            yield replace(valid, label=f"{valid.label}scope with {scope}", scope=scope)
        for count in (0, 1):
            yield replace(valid, label=f"{valid.label}send fails after {count}", breaks_after=count)
        yield replace(valid, label=f"{valid.label}client leaves", end=End.LEAVES)
        fields = (*valid.headers, (b"origin", b"https://friend.test"), (b"accept-encoding", b"gzip"))
        yield replace(valid, label=f"{valid.label}from elsewhere", headers=fields)
        asked = (
            *fields,
            (b"access-control-request-method", b"PUT"),
            (b"access-control-request-headers", b"x-one, x-two"),
        )
        yield replace(valid, label=f"{valid.label}preflight", method="OPTIONS", headers=asked)

    def _of_body(self) -> Iterator[Request]:
        yield from self._of_messages()
        valid_type, valid = self.body(self._examples.value(self._schema))
        if self._media_type is None:
            yield self.request("body that is not wanted", body=(b"application/json", b'{"a": 1}'))
            yield self.request("broken body that is not wanted", body=(b"application/json", b"{"))
            return
        for content_type in CONTENT_TYPES:
            yield self.request(f"content type {content_type!r}", body=(content_type, valid))
            yield self.request(f"content type {content_type!r}, empty", body=(content_type, b""))
        base = self.request("", body=(valid_type, valid))
        two = (*base.headers, (b"content-type", b"text/plain"))
        yield replace(base, label=f"{base.label}content type twice", headers=two)
        yield replace(base, label=f"{base.label}content type twice, other way", headers=two[::-1])
        for name, content in JSON_TEXTS:
            yield self.request(f"body {name}", body=(valid_type, content))
        yield from self._of_members()

    def _of_messages(self) -> Iterator[Request]:
        valid = self.request("")
        (content,) = valid.body
        half = len(content) // 2
        for label, parts in (
            ("in two messages", (content[:half], content[half:])),
            ("in three, one empty", (content[:1], b"", content[1:])),
            ("and an empty message", (content, b"")),
            ("in single bytes", (*(content[at : at + 1] for at in range(min(len(content), 64))), content[64:])),
        ):
            yield replace(valid, label=f"{valid.label}body {label}", body=parts)
            yield replace(valid, label=f"{valid.label}body {label}, client leaves", body=parts, end=End.LEAVES)
        yield replace(valid, label=f"{valid.label}cut body", body=(content[:half],), is_whole=False)
        yield replace(valid, label=f"{valid.label}cut after the body", body=(content,), is_whole=False)
        yield replace(valid, label=f"{valid.label}no body message at all", body=(), is_whole=False)
        for length in (b"0", b"-1", b"x", b"99999999999999", str(len(content)).encode()):
            fields = (*valid.headers, (b"content-length", length))
            yield replace(valid, label=f"{valid.label}content-length {length.decode()}", headers=fields)

    def _of_members(self) -> Iterator[Request]:
        value = self._examples.value(self._schema)
        yield self.request("smallest body", body=self.body(self._examples.value(self._schema, whole=False)))
        yield self.request("body in UTF-16", body=(b"application/json", json.dumps(value).encode("utf-16")))
        marked = b"\xef\xbb\xbf" + json.dumps(value).encode()
        yield self.request("body with a mark", body=(b"application/json", marked))
        if not isinstance(value, dict):
            for wrong in WRONG:
                yield self.request(f"body {wrong!r}", body=self.body(wrong))
            return
        yield self.request("body with more", body=self.body({**value, "more": 1, "": None}))
        yield self.request("body in a list", body=self.body([value]) if self._is_json else None)
        if self._is_json and value:
            doubled = json.dumps(value)[:-1] + "," + json.dumps(dict.fromkeys(value))[1:]
            yield self.request("members twice", body=(b"application/json", doubled.encode()))
            yield self.request("members twice, good last", body=(b"application/json", _doubled(value)))
        yield from self._of_each_member(value, ())

    @property
    def _is_json(self) -> bool:
        return self._media_type is not None and "json" in self._media_type

    def _of_each_member(self, whole: Any, path: tuple[str | int, ...]) -> Iterator[Request]:
        part = _at(whole, path)
        keys: Sequence[str | int] = list(part) if isinstance(part, dict) else list(range(min(len(part), 1)))
        for key in keys:
            where = (*path, key)
            yield self.request(f"body without {where}", body=self.body(_without(whole, where)))
            for wrong in WRONG:
                yield self.request(f"body with {where} = {wrong!r}", body=self.body(_with(whole, where, wrong)))
            if self._is_json:
                for raw in ("NaN", "-Infinity", "1e400", "1E2", "-0", HUGE, '"\\ud800"', "[" * 3000 + "]" * 3000):
                    content = json.dumps(_with(whole, where, "@@")).replace('"@@"', raw)
                    yield self.request(f"body with {where} = {raw[:12]}", body=(b"application/json", content.encode()))
            if isinstance(_at(whole, where), (dict, list)) and len(where) < 3:
                yield from self._of_each_member(whole, where)


def _pairs(chosen: Mapping[Parameter, Sequence[str | bytes] | None], place: str) -> Iterator[bytes]:
    for parameter, values in chosen.items():
        if parameter.place == place:
            for value in values or ():
                given = (
                    value
                    if isinstance(value, bytes)
                    else quote_from_bytes(value.encode(errors="surrogatepass")).encode()
                )
                yield quote(parameter.name).encode() + b"=" + given


def _header_fields(chosen: Mapping[Parameter, Sequence[str | bytes] | None]) -> Iterator[tuple[bytes, bytes]]:
    for parameter, values in chosen.items():
        if parameter.place == "header":
            for value in values or ():
                given = value if isinstance(value, bytes) else value.encode()
                yield parameter.name.lower().encode(), given.replace(b"\0", b"")
    cookies = list(_pairs(chosen, "cookie"))
    if cookies:
        yield b"cookie", b"; ".join(cookies)


def _urlencoded(value: object) -> bytes:
    pairs: list[str] = []
    for name, each in value.items() if isinstance(value, dict) else [("value", value)]:
        for one in each if isinstance(each, list) else [each]:
            pairs += [f"{quote(name)}={quote(text(one))}"]
    return "&".join(pairs).encode()


def _multipart(value: object, files: set[str]) -> bytes:
    made = b""
    for name, each in value.items() if isinstance(value, dict) else [("value", value)]:
        for one in each if isinstance(each, list) else [each]:
            filename = f'; filename="{name}.txt"\r\ncontent-type: text/plain' if name in files else ""
            head = f'--limit\r\ncontent-disposition: form-data; name="{name}"{filename}\r\n\r\n'
            made += head.encode() + text(one).encode() + b"\r\n"
    return made + b"--limit--\r\n"


def _doubled(value: Mapping[str, Any]) -> bytes:
    nothing = json.dumps(dict.fromkeys(value))
    return (nothing[:-1] + "," + json.dumps(value)[1:]).encode()


def _at(whole: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        whole = whole[key]
    return whole


def _with(whole: Any, path: Sequence[str | int], value: object) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(whole, dict):
        return {key: _with(each, rest, value) if key == first else each for key, each in whole.items()}
    return [_with(each, rest, value) if at == first else each for at, each in enumerate(whole)]


def _without(whole: Any, path: Sequence[str | int]) -> Any:
    *before, last = path
    part = _at(whole, before)
    if isinstance(part, dict):
        return _with(whole, before, {key: each for key, each in part.items() if key != last})
    return _with(whole, before, [each for at, each in enumerate(part) if at != last])


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """Return the operations of an OpenAPI document."""
    examples = Examples(document)
    return [
        Operation(path, method, described, examples)
        for path, methods in document.get("paths", {}).items()
        for method, described in methods.items()
        if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace")
    ]


ELSEWHERE = tuple(
    Request(label=f"{method} {path}", method=method, path=path)
    for path in (
        "/",
        "",
        "/nowhere",
        "/nowhere/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/docs/oauth2-redirect",
        "*",
        "/%2e%2e/",
        "//",
    )
    for method in ("GET", "HEAD", "POST", "OPTIONS")
)
"""Requests to what every application has, and to what none has."""


def generated(document: Mapping[str, Any]) -> list[Request]:
    """Return all requests for an OpenAPI document."""
    return [*ELSEWHERE, *(request for operation in operations(document) for request in operation.requests())]
