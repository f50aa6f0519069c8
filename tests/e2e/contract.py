# SPDX-License-Identifier: Apache-2.0
"""openapi/openapi.yaml as something to check requests and answers against."""

import json
import os
import re
import threading
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import jsonschema
import yaml

TOP = Path(__file__).resolve().parents[2]
CONTRACT_FILE = TOP / "openapi" / "openapi.yaml"

_formats = jsonschema.FormatChecker(formats=())


@_formats.checks("date-time")
def _is_date_time(value):
    return not isinstance(value, str) or re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value) is not None


@_formats.checks("duration")
def _is_duration(value):
    return not isinstance(value, str) or re.fullmatch(
        r"P(?=.)(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?", value) is not None


_items = jsonschema.Draft202012Validator.VALIDATORS["items"]
_seen_items = set()


def _items_once(validator, items, instance, schema):
    """As "items", but an item that was right once is not looked at again: checking is slow, and lists repeat themselves."""
    if validator.is_type(instance, "array") and isinstance(items, dict):
        fresh = []
        for item in instance:
            key = (id(items), json.dumps(item))
            if key not in _seen_items:
                if not validator.evolve(schema=items).is_valid(item):
                    fresh = instance
                    break
                _seen_items.add(key)
        instance = fresh
    yield from _items(validator, items, instance, schema)


_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"items": _items_once})


class ContractError(AssertionError):
    """A request or an answer is not as openapi.yaml says."""


def parse_json(text):
    """JSON as the contract has it: whole numbers with all their digits, each name once in an object."""
    def members(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ContractError(f"a member is there twice: {[name for name, _ in pairs]}")
        return found

    def no_float(text):
        raise ContractError(f"the contract has whole numbers only, not {text}")

    return json.loads(text, object_pairs_hook=members, parse_float=no_float, parse_constant=no_float)


class Operation:
    def __init__(self, contract, verb, template, spec):
        self.contract = contract
        self.verb = verb
        self.template = template
        self.spec = spec
        self.name = spec["operationId"]
        self.pattern = re.compile("".join(
            "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", template)))
        self.parameters = [contract.resolve(p) for p in spec.get("parameters", [])]
        self.responses = {int(status): contract.resolve(r) for status, r in spec["responses"].items()}
        self._validators = {}

    def validator(self, key, schema):
        if key not in self._validators:
            self._validators[key] = self.contract.validator(schema)
        return self._validators[key]


class Contract:
    """Finds operations and checks what goes in and what comes out. May be used by many threads."""

    def __init__(self, path=CONTRACT_FILE):
        self.text = Path(path).read_text()
        self.document = yaml.load(self.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._plain = {}
        self._right = set()
        self._problem = None
        self._lock = threading.Lock()
        self.operations = []
        for template, item in self.document["paths"].items():
            for verb in ("get", "post", "delete", "put", "patch"):
                if verb in item:
                    self.operations.append(Operation(self, verb.upper(), template, item[verb]))
        # Literal paths before templates.
        self.operations.sort(key=lambda op: op.template.count("{"))
        self.enums = self.document["x-enums"]
        self.classes = self.document["x-classes"]

    # ---- schemas

    def resolve(self, node):
        while "$ref" in node and len(node) == 1:
            node = self._at(node["$ref"])
        return node

    def _at(self, ref):
        assert ref.startswith("#/"), ref
        node = self.document
        for part in ref[2:].split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        return node

    def plain(self, schema):
        """The schema without $ref: what is referred to becomes an allOf beside its siblings."""
        if isinstance(schema, list):
            return [self.plain(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        result = {key: self.plain(value) for key, value in schema.items() if key not in ("$ref", "example", "examples")}
        if "$ref" in schema:
            ref = schema["$ref"]
            if ref not in self._plain:
                self._plain[ref] = self.plain(self._at(ref))
            if not result:
                return self._plain[ref]
            result["allOf"] = result.get("allOf", []) + [self._plain[ref]]
        return result

    def validator(self, schema):
        with self._lock:
            # Kept for good: what was right is remembered by the identity of its schema.
            return _Validator(self.plain(schema), format_checker=_formats)

    # ---- requests and answers

    def find(self, verb, path):
        for operation in self.operations:
            if operation.verb == verb and operation.pattern.fullmatch(path):
                return operation
        return None

    def check_request(self, operation, target, headers, body):
        """Raises ContractError unless the request is one that the contract allows."""
        split = urlsplit(target)
        known = {p["name"]: p for p in operation.parameters if p["in"] == "query"}
        for name, value in parse_qsl(split.query, keep_blank_values=True):
            if name not in known:
                raise ContractError(f"{operation.name}: no query parameter {name}")
            self._check(operation, ("query", name), known[name]["schema"], _from_text(value), f"query parameter {name}")
        for parameter in operation.parameters:
            if parameter["in"] == "header" and parameter["name"] in headers:
                self._check(operation, ("header", parameter["name"]), parameter["schema"], headers[parameter["name"]],
                            f"header {parameter['name']}")
        request_body = operation.spec.get("requestBody")
        if request_body is None:
            if body is not None:
                raise ContractError(f"{operation.name} takes no body")
            return
        if body is None:
            if request_body.get("required"):
                raise ContractError(f"{operation.name} needs a body")
            return
        schema = request_body["content"]["application/json"]["schema"]
        self._check(operation, ("body",), schema, body, "request body")

    def check_answer(self, operation, status, headers, text):
        """Raises ContractError unless the answer is documented. Returns the parsed body, or None."""
        where = f"{operation.verb} {operation.template}: {status}"
        if status not in operation.responses:
            raise ContractError(f"{where} is not in the contract\n{text[:500]}")
        response = operation.responses[status]
        for name, header in response.get("headers", {}).items():
            header = self.resolve(header)
            if name not in headers:
                if header.get("required"):
                    raise ContractError(f"{where}: header {name} is missing")
                continue
            schema = header["schema"]
            value = headers[name]
            if self.plain(schema).get("type") == "integer":
                value = _from_text(value)
            self._check(operation, (status, "header", name), schema, value, f"{where} header {name}")
        content = response.get("content")
        if not content:
            if text:
                raise ContractError(f"{where}: a body where there is none\n{text[:500]}")
            return None
        media = headers.get("Content-Type", "").split(";")[0].strip()
        if media not in content:
            raise ContractError(f"{where}: Content-Type {media!r}, not {sorted(content)}\n{text[:500]}")
        if not media.endswith("json"):
            return None
        try:
            body = parse_json(text)
        except ValueError as error:
            raise ContractError(f"{where}: not JSON: {error}\n{text[:500]}") from error
        self._check(operation, (status, media), content[media]["schema"], body, where)
        if media == "application/problem+json" and body["status"] != status:
            raise ContractError(f"{where}: the problem says status {body['status']}")
        returns = operation.spec.get("x-return-values")
        if returns is not None and isinstance(body, dict) and "ReturnValue" in body \
                and str(body["ReturnValue"]) not in returns:
            raise ContractError(f"{where}: ReturnValue {body['ReturnValue']} is not one of {sorted(returns)}")
        return body

    def check_problem(self, status, headers, text):
        """The answer to something that the contract does not name: a problem all the same."""
        media = headers.get("Content-Type", "").split(";")[0].strip()
        if media != "application/problem+json":
            raise ContractError(f"{status} with Content-Type {media!r} is no problem\n{text[:500]}")
        body = parse_json(text)
        if self._problem is None:
            self._problem = self.validator(self._at("#/components/schemas/Problem"))
        self._problem.validate(body)
        if body["status"] != status:
            raise ContractError(f"the problem of a {status} says status {body['status']}")
        return body

    def _check(self, operation, key, schema, value, what):
        same = (operation.name, key, json.dumps(value))
        if same in self._right:
            return
        validator = operation.validator(key, schema)
        error = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if error is not None:
            at = "/".join(str(part) for part in error.absolute_path)
            raise ContractError(f"{operation.name}, {what}: at '{at}': {error.message[:400]}\n"
                                f"{json.dumps(value)[:1500]}")
        self._right.add(same)


def _from_text(value):
    """A query or header value as the type that its schema may mean."""
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    if value in ("true", "false"):
        return value == "true"
    return value


_contract = None


def contract():
    global _contract
    if _contract is None:
        _contract = Contract()
    return _contract


class Coverage:
    """Which operations were answered how. Written to a directory, one file a process, read at the end."""

    def __init__(self):
        self.seen = {}
        self._lock = threading.Lock()

    def add(self, name, status):
        with self._lock:
            self.seen.setdefault(name, set()).add(status)

    def write(self, directory):
        os.makedirs(directory, exist_ok=True)
        path = Path(directory) / f"{os.getpid()}.json"
        path.write_text(json.dumps({name: sorted(statuses) for name, statuses in self.seen.items()}))

    @staticmethod
    def read(directory):
        seen = {}
        for path in Path(directory).glob("*.json"):
            for name, statuses in json.loads(path.read_text()).items():
                seen.setdefault(name, set()).update(statuses)
        return seen


coverage = Coverage()
