#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what a linter cannot: that openapi.yaml agrees with itself.

x-parameters with the request and answer schemas, x-enums with the numbers in the schemas, x-classes with the embedded
instances, the Text companions, and that every operation says what can go wrong. Prints each fault; status 1 if any.
"""
import pathlib
import sys

import yaml

DOC = yaml.safe_load((pathlib.Path(__file__).parent / "openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS = DOC["components"]["schemas"]
ENUMS = DOC["x-enums"]
CLASSES = DOC["x-classes"]
ONLY_PROBLEMS = {"callUnsupportedMethod"}
PLAIN_TYPES = {"string", "boolean", "uint8", "uint16", "uint32", "uint64", "datetime"}
faults = []


def fault(where, text):
    faults.append(f"{where}: {text}")


def resolve(schema):
    """The schema with its $ref followed; what stands beside the $ref wins."""
    while "$ref" in schema:
        beside = {k: v for k, v in schema.items() if k != "$ref"}
        schema = {**SCHEMAS[schema["$ref"].rsplit("/", 1)[1]], **beside}
    return schema


def allows_null(schema):
    schema = resolve(schema)
    if "type" in schema:
        return "null" in schema["type"] or schema["type"] == "null"
    if "oneOf" in schema:
        return any(allows_null(s) for s in schema["oneOf"])
    return None in schema.get("enum", [])


def check_enums():
    used = set()
    for name, schema in SCHEMAS.items():
        if "x-enum" not in schema:
            continue
        numbers = schema["oneOf"][0]["enum"] if "oneOf" in schema else schema["enum"]
        used.add(schema["x-enum"])
        if {str(n) for n in numbers if n is not None} != set(ENUMS[schema["x-enum"]]):
            fault(name, "numbers differ from x-enums")
    for name in set(ENUMS) - used:
        fault(name, "in x-enums, but no schema uses it")
    for name, values in ENUMS.items():
        folded = ["".join(c for c in text.lower() if c not in " -_") for text in values.values()]
        if len(set(folded)) != len(folded):
            fault(name, "two names read the same")


def check_companions(name, schema):
    properties = schema.get("properties", {})
    for key, value in properties.items():
        value = resolve(value)
        item = resolve(value.get("items", {})) if isinstance(value.get("items"), dict) else value
        if "x-enum" in item and key + "Text" not in properties:
            fault(f"{name}.{key}", "has no Text companion")


def check_parameter(where, parameter, schema, value):
    kind = parameter["type"]
    if kind not in PLAIN_TYPES and not kind.startswith(("ref:", "instance:")):
        fault(where, f"unknown type {kind}")
    shape = resolve(value)
    if parameter["array"] != ("items" in shape):
        fault(where, "array in one place, not in the other")
    item = resolve(shape["items"]) if parameter["array"] else shape
    if item.get("x-enum") != parameter.get("enum"):
        fault(where, f"enumeration {item.get('x-enum')}, x-parameters says {parameter.get('enum')}")
    if parameter.get("enum", "SyncType") not in ENUMS:
        fault(where, f"no {parameter['enum']} in x-enums")
    name = parameter["name"]
    if schema is not None:
        if parameter["required"] != (name in schema.get("required", [])):
            fault(where, "required in one place, not in the other")
        if parameter["required"] == allows_null(value):
            fault(where, "required and null do not fit")


def check_call(name, operation):
    """An operation with x-parameters: its request and its answers hold just these."""
    parameters = operation["x-parameters"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    request = resolve(body)
    inputs = [p for p in parameters if p["direction"] != "out"]
    outputs = [p for p in parameters if p["direction"] != "in" and p["name"] != "Job"]
    if list(request.get("properties", {})) != [p["name"] for p in inputs]:
        fault(name, "the request's properties are not the input parameters")
    for parameter in inputs:
        value = request.get("properties", {}).get(parameter["name"])
        if value is not None:
            check_parameter(f"{name}.{parameter['name']}", parameter, request, value)
    if operation["requestBody"].get("required", False) != any(p["required"] for p in inputs):
        fault(name, "requestBody.required")
    for status in ("200", "202"):
        if status not in operation["responses"]:
            continue
        answer = resolve(
            operation["responses"][status]["content"]["application/json"]["schema"]["allOf"][0]
        )
        want = ["ReturnValue"]
        for parameter in outputs:
            want += [parameter["name"]] + ([parameter["name"] + "Text"] if "enum" in parameter else [])
            value = answer["properties"].get(parameter["name"])
            if value is not None:
                check_parameter(f"{name}.{parameter['name']}", parameter, None, value)
        want.append("Job")
        if list(answer["properties"]) != want or answer["required"] != want:
            fault(name, f"the {status} answer's properties are not the output parameters")
    if "202" in operation["responses"] and "4096" not in operation["x-return-values"]:
        fault(name, "answers 202 without ReturnValue 4096")


def check_classes():
    for name, properties in CLASSES.items():
        schema = SCHEMAS[name + "Properties"]
        if list(schema["properties"]) != ["class"] + [p["name"] for p in properties]:
            fault(name, "x-classes and its properties differ")
            continue
        for prop in properties:
            value = schema["properties"][prop["name"]]
            check_parameter(f"{name}.{prop['name']}", prop, schema, value)
            if prop.get("extension", False) != value.get("x-extension", False):
                fault(f"{name}.{prop['name']}", "x-extension")


def check_operations():
    for path, item in DOC["paths"].items():
        for verb in ("get", "post", "delete"):
            operation = item.get(verb)
            if operation is None:
                continue
            name = operation["operationId"]
            codes = set(operation["responses"])
            need = {"403"} if operation.get("security") == [] else {"401", "403"}
            if "{id}" in path:
                need.add("404")
            if verb == "post":
                need |= {"400", "413", "415", "422", "503"}
            if name not in ONLY_PROBLEMS and not codes & {"200", "202", "204"}:
                fault(name, "no answer of success")
            if need - codes:
                fault(name, f"does not say {sorted(need - codes)}")
            keys = [p.get("$ref", "") for p in operation.get("parameters", [])]
            if verb != "get" and "#/components/parameters/IdempotencyKey" not in keys:
                fault(name, "takes no Idempotency-Key")
            if "x-parameters" in operation:
                check_call(name, operation)
            if path.startswith("/services/") and verb == "post" and "{" not in path:
                _, _, service, method = path.split("/")
                if method != name or operation["tags"] != [service]:
                    fault(path, "operationId or tag")
                if method in DOC["x-unsupported-methods"][service]:
                    fault(path, "is also in x-unsupported-methods")


def main():
    check_enums()
    check_classes()
    check_operations()
    for name, schema in SCHEMAS.items():
        # What comes in has no companions, nor has the embedded instance that is made to be sent back.
        if not name.endswith(("Request", "Properties")) and name != "ReplicationSettingData":
            check_companions(name, schema)
    for text in faults:
        print(text)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
