#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what the service says of itself with openapi.yaml, in both directions.

    check_tables.py tables OPENAPI test_service_tables
        methods, parameters, enumerations, classes, return values
    check_tables.py views OPENAPI test_view_objects
        objects against their schemas, filters, methods as GET shows them
    check_tables.py answers OPENAPI test_capabilities
        an answer of each method of ReplicationServiceCapabilities
    check_tables.py self-test OPENAPI
        proves that the comparisons can fail

The programs are called with --dump and print JSON. Prints each difference; status 1 if any.
"""
import copy
import json
import subprocess
import sys

import jsonschema
import yaml

# GET of these is described by one schema for the collection.
CLASS_OF = {
    "systems": "ComputerSystem",
    "accesspoints": "RemoteServiceAccessPoint",
    "pools": "StoragePool",
    "volumes": "StorageVolume",
    "synchronizations": "StorageSynchronized",
    "groups": "ReplicationGroup",
    "groupsynchronizations": "GroupSynchronized",
    "jobs": "ConcreteJob",
    "settings": "StorageSetting",
    "endpoints": "iSCSIProtocolEndpoint",
}


class Contract:
    """openapi.yaml and the differences found so far."""

    def __init__(self, doc):
        self.doc = doc
        self.faults = []

    def fault(self, where, text):
        self.faults.append(f"{where}: {text}")

    def same(self, where, ours, contract):
        if ours != contract:
            self.fault(where, f"the table has {ours!r}, openapi.yaml {contract!r}")

    def same_set(self, where, ours, contract):
        for name in ours:
            if name not in contract:
                self.fault(where, f"{name} is in the table, not in openapi.yaml")
        for name in contract:
            if name not in ours:
                self.fault(where, f"{name} is in openapi.yaml, not in the table")

    def enum(self, where, ours_name, ours, contract_name):
        """An enumeration by its name in both, and its values."""
        if contract_name is None or ours_name is None:
            self.same(f"{where}: enumeration", ours_name, contract_name)
            return
        self.same(f"{where}: name of the enumeration", ours_name, contract_name)
        if contract_name not in self.doc["x-enums"]:
            self.fault(where, f"no {contract_name} in x-enums")
            return
        contract = self.doc["x-enums"][contract_name]
        self.same_set(f"{where}: values of {contract_name}", ours, contract)
        for number in set(ours) & set(contract):
            self.same(f"{where}: {contract_name} {number}", ours[number], contract[number])

    def param(self, where, ours, contract, direction=True):
        self.same(f"{where}: type", ours["Type"], contract["type"])
        if direction:
            self.same(f"{where}: direction", ours["Direction"], contract["direction"])
        self.same(f"{where}: required", ours["Required"], contract["required"])
        self.same(f"{where}: array", ours["Array"], contract["array"])
        self.enum(where, ours["Enum"], ours["Values"], contract.get("enum"))

    def params(self, where, ours, contract, direction=True):
        names = [p["Name"] for p in ours]
        contract_names = [p["name"] for p in contract]
        self.same_set(where, names, contract_names)
        by_name = {p["name"]: p for p in contract}
        if sorted(names) == sorted(contract_names):
            self.same(f"{where}: order", names, contract_names)
        for p in ours:
            if p["Name"] in by_name:
                self.param(f"{where}.{p['Name']}", p, by_name[p["Name"]], direction)

    def request(self, where, ours, operation):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        schema = self.doc["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        inputs = [p for p in ours if p["Direction"] != "out"]
        self.same_set(f"{where}: request", [p["Name"] for p in inputs],
                      list(schema.get("properties", {})))
        self.same_set(f"{where}: required in the request",
                      [p["Name"] for p in inputs if p["Required"]], schema.get("required", []))

    def method(self, where, ours, operation):
        self.params(where, ours["Parameters"], operation["x-parameters"])
        self.request(where, ours["Parameters"], operation)
        contract = operation["x-return-values"]
        self.same_set(f"{where}: return values", ours["ReturnValues"], contract)
        for number in set(ours["ReturnValues"]) & set(contract):
            self.same(f"{where}: return value {number}", ours["ReturnValues"][number],
                      contract[number])

    def methods(self, name, methods):
        """All methods of a service, with those that are not supported."""
        prefix = f"/services/{name}/"
        contract = {path[len(prefix):]: item["post"] for path, item in self.doc["paths"].items()
                    if path.startswith(prefix)}
        supported = {m["Name"]: m for m in methods if m["Supported"]}
        self.same_set(name, list(supported), list(contract))
        self.same_set(f"{name}: not supported", [m["Name"] for m in methods if not m["Supported"]],
                      self.doc["x-unsupported-methods"][name])
        for method in set(supported) & set(contract):
            self.method(f"{name}.{method}", supported[method], contract[method])


def check_tables(contract, dump):
    services = contract.doc["x-unsupported-methods"]
    contract.same_set("services", list(dump["services"]), list(services))
    for name in set(dump["services"]) & set(services):
        contract.methods(name, dump["services"][name]["Methods"])
    for name, service in dump["objects"].items():
        prefix = f"/{name}/{{id}}/"
        paths = {path[len(prefix):]: item["post"] for path, item in contract.doc["paths"].items()
                 if path.startswith(prefix)}
        ours = {m["Name"]: m for m in service["Methods"]}
        deletes = "delete" in contract.doc["paths"][f"/{name}/{{id}}"]
        contract.same(f"{name}: DELETE", "DeleteInstance" in ours, deletes)
        ours.pop("DeleteInstance", None)
        contract.same_set(name, list(ours), list(paths))
        for method in set(ours) & set(paths):
            if "x-parameters" in paths[method]:
                contract.method(f"{name}.{method}", ours[method], paths[method])
            else:
                contract.fault(f"{name}.{method}", "has no x-parameters")
    contract.same_set("classes", list(dump["classes"]), list(contract.doc["x-classes"]))
    for name in set(dump["classes"]) & set(contract.doc["x-classes"]):
        contract.params(name, dump["classes"][name], contract.doc["x-classes"][name], False)
    for name, values in dump["maps"].items():
        contract.enum(name, name, values, name)


def check_object(contract, where, schema, value):
    schema = {"$ref": f"#/components/schemas/{schema}", "components": contract.doc["components"]}
    validator = jsonschema.Draft202012Validator(schema)
    for error in validator.iter_errors(value):
        path = "/".join(str(p) for p in error.absolute_path)
        contract.fault(f"{where} {path}", error.message[:300])


def texts_fit(contract, where, value):
    """Every companion is the name that x-enums gives its number."""
    schemas = contract.doc["components"]["schemas"]
    properties = schemas[value["class"]]["properties"]
    for name, schema in properties.items():
        items = schema.get("items", schema)
        reference = items.get("$ref", "").rsplit("/", 1)[-1]
        enum = schemas.get(reference, {}).get("x-enum")
        if enum is None or value.get(name) is None:
            continue
        numbers = value[name] if isinstance(value[name], list) else [value[name]]
        texts = value[name + "Text"]
        texts = texts if isinstance(texts, list) else [texts]
        names = [contract.doc["x-enums"][enum].get(str(n)) for n in numbers]
        contract.same(f"{where}: {name}Text", texts, names)


def check_views(contract, dump):
    lists = {path[1:] for path, item in contract.doc["paths"].items()
             if path.count("/") == 1 and "get" in item
             and "#/components/parameters/limit" in str(item["get"].get("parameters", []))}
    contract.same_set("collections", list(dump), sorted(lists))
    for name in sorted(lists & set(dump)):
        references = [p["$ref"].rsplit("/", 1)[1]
                      for p in contract.doc["paths"]["/" + name]["get"]["parameters"]]
        filters = [r for r in references if r not in ("limit", "cursor")]
        contract.same_set(f"/{name}: filters", dump[name]["filters"], filters)
        item = next(path for path in contract.doc["paths"] if path.startswith(f"/{name}/{{"))
        contract.same(f"/{name}: DELETE", dump[name]["delete"],
                      "delete" in contract.doc["paths"][item])
        if name != "pipes" and not dump[name]["members"]:
            contract.fault(f"/{name}", "the test has no object of it")
        for value in dump[name]["members"]:
            where = value["self"]
            check_object(contract, where, CLASS_OF.get(name, value["class"]), value)
            texts_fit(contract, where, value)
            if name == "services":
                contract.methods(value["Name"], value["Methods"])


def check_answers(contract, dump):
    prefix = "/services/ReplicationServiceCapabilities/"
    methods = [path[len(prefix):] for path in contract.doc["paths"] if path.startswith(prefix)]
    contract.same_set("answers", [entry["Method"] for entry in dump], methods)
    for entry in dump:
        check_object(contract, entry["Method"], entry["Method"] + "Answer", entry["Answer"])


def self_test(doc):
    """A contract agrees with what is made from it, and with nothing that differs in one place."""
    name, method = "ReplicationService", "CreateElementReplica"
    operation = doc["paths"][f"/services/{name}/{method}"]["post"]
    good = {
        "Name": method,
        "ReturnValues": dict(operation["x-return-values"]),
        "Parameters": [
            {"Name": p["name"], "Type": p["type"], "Direction": p["direction"],
             "Required": p["required"], "Array": p["array"], "Enum": p.get("enum"),
             "Values": dict(doc["x-enums"][p["enum"]]) if "enum" in p else None}
            for p in operation["x-parameters"]],
    }

    def faults(change):
        bad = copy.deepcopy(good)
        change(bad)
        contract = Contract(doc)
        contract.method(method, bad, operation)
        return len(contract.faults)

    first = good["Parameters"][1]
    changes = {
        "a type": lambda m: m["Parameters"][0].update(Type="uint16"),
        "a direction": lambda m: m["Parameters"][0].update(Direction="inout"),
        "required": lambda m: m["Parameters"][0].update(Required=True),
        "array": lambda m: m["Parameters"][0].update(Array=True),
        "the order": lambda m: m["Parameters"].reverse(),
        "a parameter missing": lambda m: m["Parameters"].pop(),
        "a parameter more": lambda m: m["Parameters"].append(dict(first, Name="More")),
        "an enumeration's name": lambda m: m["Parameters"][1].update(Enum="Mode"),
        "a value missing": lambda m: m["Parameters"][1]["Values"].popitem(),
        "a value's text": lambda m: m["Parameters"][1]["Values"].update({"8": "Klone"}),
        "a return value": lambda m: m["ReturnValues"].pop("6"),
        "a return value's text": lambda m: m["ReturnValues"].update({"6": "Used"}),
    }
    failed = [] if faults(lambda m: None) == 0 else ["nothing changed"]
    failed += [name for name, change in changes.items() if faults(change) == 0]
    contract = Contract(doc)
    check_object(contract, "endpoint", CLASS_OF["endpoints"], {"self": "/endpoints/initiator"})
    failed += [] if contract.faults else ["an object without its properties"]
    contract = Contract(doc)
    texts_fit(contract, "endpoint",
              {"class": CLASS_OF["endpoints"], "Role": 2, "RoleText": "Target"})
    failed += [] if contract.faults else ["the wrong name of a value"]
    for name in failed:
        print(f"self-test: {name}: wrong answer")
    return 1 if failed else 0


def main():
    mode, openapi = sys.argv[1], sys.argv[2]
    with open(openapi, encoding="utf-8") as file:
        doc = yaml.safe_load(file)
    if mode == "self-test":
        return self_test(doc)
    run = subprocess.run([sys.argv[3], "--dump"], stdout=subprocess.PIPE, check=True, timeout=60)
    contract = Contract(doc)
    check = {"tables": check_tables, "views": check_views, "answers": check_answers}[mode]
    check(contract, json.loads(run.stdout))
    for text in contract.faults:
        print(text)
    return 1 if contract.faults else 0


if __name__ == "__main__":
    sys.exit(main())
