# SPDX-License-Identifier: Apache-2.0
"""Each parameter of each method wrong in each way: the right ReturnValue, status and Parameter, and nothing changed.

The table is x-parameters of the contract. For every method there is a body that would be right; a case changes one
thing in it. After the cases of a parameter everything is compared: all lists over HTTP, and every row in SQLite.
"""

import json
import re

import pytest

from client import method_path
from contract import contract
from conftest import World
from process import MIB

COLLECTIONS = ("/systems", "/accesspoints", "/pools", "/volumes", "/exports", "/synchronizations", "/jobs", "/settings", "/endpoints",
               "/groups", "/groupsynchronizations", "/pipes", "/services")
# Rows that the service itself keeps up to date, whatever is called.
LIVE = ("access_points.reachable", "access_points.probed", "access_points.last_seen_ms", "access_points.last_tried_ms",
        "access_points.last_error", "volumes.last_seen_ms", "volumes.problem")
# The space of a pool of files is that of its file system, which others use too.
LIVE_JSON = re.compile(r'"(Reachable|Reachability|Last[A-Za-z]+|HealthState|HealthStateText|OperationalStatus(Text)?|Problem|ElapsedTime|'
                       r'(Total|Remaining)ManagedSpace)"')

OBJECT_METHODS = {"RequestStateChange": "/jobs/{id}/RequestStateChange", "GetErrors": "/jobs/{id}/GetErrors"}


def all_methods():
    methods = {}
    for path, item in contract().document["paths"].items():
        parts = path.split("/")
        if path.startswith("/services/") and "{" not in path:
            methods[parts[-1]] = item["post"]
    for name, path in OBJECT_METHODS.items():
        methods[name] = contract().document["paths"][path]["post"]
    return methods


METHODS = all_methods()
PARAMETERS = [(name, parameter) for name, spec in METHODS.items() for parameter in spec["x-parameters"]]
INPUTS = [(name, p) for name, p in PARAMETERS if p["direction"] != "out"]
OUTPUTS = [(name, p) for name, p in PARAMETERS if p["direction"] == "out"]
# One method that takes each embedded class.
INSTANCE_OF = {"ReplicationSettingData": ("CreateElementReplica", "ReplicationSettingData"),
               "StorageSetting": ("AttachOrModifyReplica", "Goal"),
               "StoragePoolSetting": ("CreateOrModifyStoragePool", "Goal"),
               "ReplicationEntity": ("AddReplicationEntity", "ReplicationEntity"),
               "ServiceAccessPoint": ("AddServiceAccessPoint", "ServiceAccessPoint"),
               "SharedSecret": ("AddSharedSecret", "SharedSecret")}
PROPERTIES = [(cls, p) for cls in INSTANCE_OF for p in contract().classes[cls]]


def ids(pairs):
    return [f"{name}-{parameter['name']}" for name, parameter in pairs]


class Table:
    """A service with one of everything, and a right body for every method."""

    def __init__(self, world):
        self.world = world
        client = world.client
        self.client = client
        self.source_lun, self.source, _, self.target = world.pair(MIB)
        self.free = world.volume(size=MIB)
        self.free_too = world.volume(size=MIB)
        self.pooled = world.volume(size=MIB)
        self.pool = world.pool(self.pooled, name="table")
        answer = world.clone(self.source, TargetPool=self.pool, wait=True)
        self.synchronization, self.job = answer["Synchronization"], answer["Job"]
        self.access_point = client.get(self.source)["AccessPoint"]
        self.system = client.get(self.source)["System"]
        self.setting = "/settings/default"
        self.hosted = client.method("CreateOrModifyElementFromStoragePool", {"Size": MIB}, expect=200)["TheElement"]
        self.export = self.hosted.replace("/volumes/", "/exports/")
        self.group = client.method("CreateGroup", {"GroupName": "table", "Members": [self.free]}, expect=200)["ReplicationGroup"]
        self.target_group = client.method("CreateGroup", {"Members": [self.free_too]}, expect=200)["ReplicationGroup"]
        self.pipe = client.method("CreateOrModifyReplicationPipe", {"SourceSystem": "/systems/local", "TargetSystem": self.system},
                                  expect=200)["ReplicationPipe"]
        answer = client.method("CreateGroupReplicaFromElements", {
            "SyncType": 8, "SourceElements": [world.volume(size=MIB)], "TargetElements": [world.volume(size=MIB)]}, expect=202)
        client.completed(answer["Job"])
        self.group_synchronization = answer["Synchronization"]
        self.bodies = {
            "CreateGroup": {"Members": [self.free]},
            "CreateGroupReplica": {"SyncType": 8, "SourceGroup": self.group, "TargetGroup": self.target_group},
            "CreateGroupReplicaFromElements": {"SyncType": 8, "SourceElements": [self.source], "TargetElements": [self.target]},
            "DeleteGroup": {"ReplicationGroup": self.group},
            "AddMembers": {"ReplicationGroup": self.group, "Members": [self.free]},
            "RemoveMembers": {"ReplicationGroup": self.group, "Members": [self.free]},
            "CreateOrModifyStoragePool": {"InExtents": [self.free]},
            "CreateOrModifyElementFromStoragePool": {"TheElement": self.hosted, "Size": 2 * MIB},
            "DeleteStoragePool": {"Pool": self.pool},
            "ReturnToStoragePool": {"TheElement": self.pooled},
            "CreateReplica": {"SourceElement": self.source, "CopyType": 5},
            "ModifySynchronization": {"Operation": 4, "Synchronization": self.synchronization},
            "AttachReplica": {"SourceElement": self.source, "TargetElement": self.target, "CopyType": 4},
            "AttachOrModifyReplica": {"SourceElement": self.source, "TargetElement": self.target, "CopyType": 4},
            "ExposePaths": {"LogicalUnits": [self.hosted], "InitiatorPortIDs": ["iqn.2026-11.test:host"]},
            "HidePaths": {"ProtocolControllers": [self.export], "InitiatorPortIDs": ["iqn.2026-11.test:host"]},
            "CreateOrModifyReplicationPipe": {"SourceSystem": "/systems/local", "TargetSystem": self.system,
                                              "SourceEndpoint": ["/endpoints/initiator"],
                                              "TargetEndpoint": [self.access_point.replace("accesspoints", "endpoints")]},
            "ScsiScan": {"ConnectionType": 7, "Targets": ["iqn.2026-11.test.none:0"]},
            "CreateElementReplica": {"SyncType": 8, "SourceElement": self.source, "TargetElement": self.target},
            "ModifyReplicaSynchronization": {"Operation": 14, "Synchronization": self.synchronization},
            "GetAvailableTargetElements": {"SyncType": 8, "SourceElement": self.source},
            "CreateGroupReplicaFromElementSynchronizations": {"ElementSynchronizations": [self.synchronization]},
            "AddElementsToGroupSynchronized": {"Synchronized": self.group_synchronization, "SourceElements": [self.source],
                                               "TargetElements": [self.target]},
            "ModifyListSynchronization": {"Operation": 14, "Synchronization": [self.synchronization]},
            "GetPeerSystems": {"Options": 2},
            "GetReplicationRelationships": {}, "GetReplicationRelationshipInstances": {},
            "GetServiceAccessPoints": {"System": self.system},
            "AddReplicationEntity": {"ReplicationEntity": {"Type": 8, "EntityID": self.source_lun.url}, "Persistent": True},
            "AddServiceAccessPoint": {"ServiceAccessPoint": {"AccessInfo": "127.1.2.3:3260"}},
            "AddSharedSecret": {"SharedSecret": {"RemoteID": "user", "Secret": "secretsecret1"},
                                "ServiceAccessPoint": self.access_point},
            "CreateListReplica": {"SyncType": 8, "SourceElements": [self.source], "TargetElements": [self.target]},
            "ConvertSyncTypeToReplicationType": {"SyncType": 8, "Mode": 2, "LocalOrRemote": 3},
            "ConvertReplicationTypeToSyncType": {"ReplicationType": 12},
            "GetSupportedWaitForCopyStates": {"ReplicationType": 12, "MethodName": 2},
            "GetSupportedMaximum": {"ReplicationType": 12, "Component": 5},
            "GetSupportedReplicationSettingData": {"ReplicationType": 12, "PropertyName": 8},
            "GetDefaultGroupPersistency": {},
            "GetSupportedConnectionFeatures": {"connection": self.access_point},
            "GetSynchronizationSupported": {"LocalElement": self.source, "OtherElement": self.target, "MethodName": 2},
            "GetElementNameCapabilities": {"ElementType": 6},
            "GetSupportedOperationsForSynchronization": {"Synchronization": self.synchronization},
            "GetSupportedReplicationTypesForSystem": {"System": self.system},
            "RequestStateChange": {"RequestedState": 4},
            "GetErrors": {},
        }
        for name, spec in METHODS.items():
            if name not in self.bodies:
                assert [p["name"] for p in spec["x-parameters"] if p["required"]] == ["ReplicationType"], name
                self.bodies[name] = {"ReplicationType": 12}

    def path(self, method):
        return f"{self.job}/{method}" if method in OBJECT_METHODS else method_path(method)

    def state(self):
        """All that there is: rows, and lists as the API shows them."""
        lists = {}
        for collection in COLLECTIONS:
            members = self.client.list(collection)
            lists[collection] = [{k: v for k, v in member.items() if not LIVE_JSON.match(f'"{k}"')} for member in members]
        return {"rows": self.world.smirror.records(but=LIVE), "lists": lists}

    def call(self, method, body):
        return self.client.call("POST", self.path(method), body=body, wrong=True)

    def object_of(self, wanted):
        """A path of an object of a class."""
        return {"LogicalElement": self.source, "ManagedElement": self.source, "StoragePool": self.pool, "ResourcePool": self.pool,
                "ComputerSystem": self.system, "ServiceAccessPoint": self.access_point, "StorageSetting": self.setting,
                "SettingData": self.setting, "Synchronized": self.synchronization, "StorageSynchronized": self.synchronization,
                "ConcreteJob": self.job, "SCSIProtocolEndpoint": "/endpoints/initiator", "ProtocolEndpoint": "/endpoints/initiator", "NetworkPipe": self.pipe,
                "RemoteServiceAccessPoint": self.access_point,
                "SCSIProtocolController": self.export, "ReplicationGroup": self.group}.get(wanted)

    def object_not_of(self, wanted):
        """Paths of objects of other classes."""
        own = self.object_of(wanted)
        collection = own.split("/")[1] if own else ""
        candidates = [self.source, self.pool, self.system, self.synchronization, self.job, self.setting]
        return [path for path in candidates if path.split("/")[1] != collection]


@pytest.fixture(scope="module")
def table(room):
    world = World(room, "--reach-interval", "1h")
    try:
        yield Table(world)
    finally:
        world.close()


# ---- what is wrong: (value, ReturnValue or None for a protocol error, Codes)

TYPE, VALUE = ("wrong_type",), ("bad_value",)
EITHER = ("wrong_type", "bad_value")


def wrong_scalars(table, parameter):
    """Values that a single value of this type must not be."""
    kind = parameter["type"]
    if kind == "string":
        return [(1, TYPE), (True, TYPE), ({}, TYPE), ([], TYPE), (1.5, TYPE), ("x" * 100000, VALUE)]
    if kind == "boolean":
        return [("true", TYPE), (1, TYPE), (0, TYPE), ({}, TYPE), ([], TYPE), ("", TYPE)]
    if kind == "datetime":
        return [(1, TYPE), (True, TYPE), ({}, TYPE), ("tomorrow", VALUE), ("", VALUE), ("PT", VALUE), ("P1", VALUE),
                ("00000000000015.000000", VALUE), ("2026-13-40T00:00:00Z", VALUE)]
    if kind.startswith("uint"):
        top = (1 << int(kind[4:])) - 1
        wrong = [(True, TYPE), ({}, TYPE), ([], TYPE), (1.5, EITHER), (-1, EITHER), (top + 1, VALUE), (-(1 << 70), EITHER), (1e300, EITHER)]
        if "enum" in parameter:
            known = {int(number) for number in contract().enums[parameter["enum"]]}
            free = [number for number in range(top + 1) if number not in known][:2]
            vendor = next(number for number in range(0x8000, top + 1) if number not in known)
            wrong += [(number, VALUE) for number in (*free, vendor, top) if number not in known]
            wrong += [("Nonsense", VALUE), ("", VALUE), ("99999", VALUE), ("8x", VALUE)]
        else:
            wrong += [("x", EITHER), ("", EITHER), ("-1", EITHER), ("1.0", EITHER), ("0x10", EITHER), ("1 ", EITHER),
                      (str(top + 1), EITHER)]
            if kind != "uint64":
                pass
        return wrong
    if kind.startswith("ref:"):
        collection = (table.object_of(kind[4:]) or "/volumes/x").split("/")[1]
        unknown = ("no_such_object", "wrong_class", "bad_value", "invalid_parameter")
        wrong = [(1, TYPE), (True, TYPE), ({}, TYPE), ("", unknown), ("nonsense", unknown), (f"/{collection}/000000000000", unknown),
                 (f"/{collection}", unknown), (f"/{collection}/", unknown), ("/", unknown), (f"/{collection}/x/y", unknown),
                 (f"/{collection}/" + "a" * 500, unknown), (f"http://127.0.0.1/{collection}/x", unknown),
                 ("/volumes/../volumes/x", unknown), ("/nothing/000000000000", unknown)]
        # Where nothing may be referred to, or Job which is for the answer, one text is as good for all paths.
        nothing = table.object_of(kind[4:]) in (None, table.job) or parameter["name"] == "SyncPair"
        return wrong + [(path, unknown if nothing else ("wrong_class", "no_such_object")) for path in table.object_not_of(kind[4:])]
    assert kind.startswith("instance:"), kind
    return [(1, TYPE), (True, TYPE), ([], TYPE), ("", EITHER), ("nonsense", EITHER), ("{", EITHER), ("[]", EITHER), ("1", EITHER),
            ("null", EITHER)]


# What a method says about its own parameter before, or instead of, the common rule: (method, parameter, value) -> answers.
def special(method, parameter, value):
    """(ReturnValue, status, Code) that the contract names for this one, or None."""
    if method == "ScsiScan" and parameter == "ConnectionType" and isinstance(value, (int, str)) and not isinstance(value, bool):
        return (4096, 400, "invalid_connection_type")
    if method == "ScsiScan" and parameter == "Initiators":
        return (4097, 400, "invalid_initiator")
    if method in ("AddMembers", "RemoveMembers") and parameter == "ReplicationGroup" and value == "/groups/000000000000":
        return (7, 400, "no_such_group")
    if method == "AttachOrModifyReplica" and parameter == "ReplicationPipe":
        return (5, 400, "bad_value")  # its CopyType is that of a copy
    if method == "CreateOrModifyStoragePool" and parameter == "Goal":
        return (1, 501, "not_supported")
    return None


# Where the method itself says that there is nothing to refer to, it may name the array and not the item, or the
# parameter that it does not go with.
INSTEAD = {"Collections[0]": "Collections", "SyncPair[0]": "SyncPair", "ReplicationPipe": "CopyType"}


def expect_refused(table, method, body, name, codes, case):
    answer = table.call(method, body)
    allowed = special(method, name.split("[")[0].split(".")[0], case)
    if allowed and answer.status == allowed[1] and answer.get("ReturnValue") == allowed[0] and answer["Code"] == allowed[2]:
        return
    what = f"{method} {name}={json.dumps(case)[:80]}: {answer.text[:400]}"
    assert answer.status == 400, what
    assert answer.get("ReturnValue") == 5, what
    assert answer["Code"] in codes, what
    assert answer.get("Parameter") == name or answer.get("Parameter") == INSTEAD.get(name), what
    assert answer["detail"], what


@pytest.mark.parametrize("method,parameter", INPUTS, ids=ids(INPUTS))
def test_a_wrong_value_is_invalid_parameter_and_changes_nothing(table, method, parameter):
    before = table.state()
    name = parameter["name"]
    body = table.bodies[method]
    if name in ("TargetPool", "TargetSettingGoal"):
        # They do not go with a target that is given.
        body = {key: value for key, value in body.items() if not key.startswith("TargetElement")}
    if name == "SourceElement":
        # It or a group.
        body = {key: value for key, value in body.items() if key != "SourceGroup"}
    if method.startswith("CreateGroup") and (name == "TargetElementCount" or name.startswith(("TargetP", "TargetS"))):
        body = {key: value for key, value in body.items() if key not in ("TargetGroup", "TargetElements")}
    if name == "InPool":
        # A pool is for what is made.
        body = {key: value for key, value in body.items() if key != "TheElement"}
    if name == "Goal" and parameter["type"] == "ref:ManagedElement":
        # Any element to CIM; a setting is what it has to be.
        parameter = {**parameter, "type": "ref:StorageSetting"}
    if parameter["array"]:
        for value in ("x", 1, True, {}):
            expect_refused(table, method, {**body, name: value}, name, TYPE, value)
        for value, codes in wrong_scalars(table, {**parameter, "array": False}):
            if parameter["type"] == "string" and isinstance(value, str) and method != "CreateListReplica":
                continue
            expect_refused(table, method, {**body, name: [value]}, f"{name}[0]", codes, value)
        if name in ("SourceElements", "TargetPools"):
            good = table.object_of(parameter["type"][4:])
            expect_refused(table, method, {**body, "TargetElements": None, name: [good, "/volumes/000000000000"]}
                           if name == "SourceElements" else {**body, name: [good, "/pools/000000000000"]},
                           f"{name}[1]", ("no_such_object",), None)
    else:
        for value, codes in wrong_scalars(table, parameter):
            expect_refused(table, method, {**body, name: value}, name, codes, value)
    assert table.state() == before


@pytest.mark.parametrize("method,parameter", [(m, p) for m, p in INPUTS if p["required"]],
                         ids=ids([(m, p) for m, p in INPUTS if p["required"]]))
def test_a_required_parameter_missing_or_null_is_invalid_parameter(table, method, parameter):
    before = table.state()
    name = parameter["name"]
    without = {key: value for key, value in table.bodies[method].items() if key != name}
    for body in (without, {**without, name: None}):
        answer = table.call(method, body)
        assert (answer.status, answer.get("ReturnValue"), answer["Code"], answer.get("Parameter")) == \
            (400, 5, "missing_parameter", name), answer.text
    assert table.state() == before


@pytest.mark.parametrize("method,parameter", OUTPUTS, ids=ids(OUTPUTS))
def test_C12_an_output_parameter_supplied_is_no_call_at_all(table, method, parameter):
    before = table.state()
    name = parameter["name"]
    good = parameter["type"].startswith("ref:") and table.object_of(parameter["type"][4:])
    # Null is the same as absent, so it is none of them.
    for value in (good or 1, "x", 1, False, [], {}):
        answer = table.call(method, {**table.bodies[method], name: value})
        assert answer.status == 400 and "ReturnValue" not in answer.body, answer.text
        assert answer["Code"] == "out_parameter" and answer["Parameter"] == name, answer.text
    assert table.state() == before


@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_member_is_no_call_at_all(table, method):
    before = table.state()
    body = table.bodies[method]
    names = ["Nonsense", "", "__proto__", "x" * 1000]
    # Names are CIM's exactly: the case counts.
    names += [name.lower() for name in list(body)[:1] if name.lower() != name]
    for name in names:
        answer = table.call(method, {**body, name: None})
        assert answer.status == 400 and "ReturnValue" not in answer.body, answer.text
        assert answer["Code"] == "unknown_member", answer.text
        assert answer["Parameter"].startswith(name[:50]) if name else True, answer.text
    assert table.state() == before


@pytest.mark.parametrize("cls,parameter", PROPERTIES, ids=ids(PROPERTIES))
def test_a_wrong_property_of_an_embedded_instance_is_invalid_parameter(table, cls, parameter):
    before = table.state()
    method, outer = INSTANCE_OF[cls]
    body = table.bodies[method]
    inner = body.get(outer, {})
    name = parameter["name"]
    ignored = name in ("InstanceID", "ConfigurationName", "OtherTypeDescription")
    for value, codes in wrong_scalars(table, parameter):
        if ignored and isinstance(value, str):
            continue
        wrong = {**inner, name: value}
        expect_refused(table, method, {**body, outer: wrong}, f"{outer}.{name}", codes, value)
        if value == 1.5 or isinstance(value, bool):
            # The instance as a string is the same.
            expect_refused(table, method, {**body, outer: json.dumps(wrong)}, f"{outer}.{name}", codes, value)
    if parameter["required"]:
        for wrong in ({k: v for k, v in inner.items() if k != name}, {**inner, name: None}):
            expect_refused(table, method, {**body, outer: wrong}, f"{outer}.{name}", ("missing_parameter",), None)
    assert table.state() == before


@pytest.mark.parametrize("cls", INSTANCE_OF)
def test_an_embedded_instance_with_an_unknown_member_or_of_another_class_is_refused(table, cls):
    before = table.state()
    method, outer = INSTANCE_OF[cls]
    body = table.bodies[method]
    inner = body.get(outer, {})
    answer = table.call(method, {**body, outer: {**inner, "Nonsense": 1}})
    assert answer.status == 400 and "ReturnValue" not in answer.body, answer.text
    assert answer["Code"] == "unknown_member" and answer["Parameter"] == f"{outer}.Nonsense", answer.text
    answer = table.call(method, {**body, outer: {**inner, "class": "ComputerSystem"}})
    assert (answer.status, answer.get("ReturnValue"), answer["Parameter"]) == (400, 5, f"{outer}.class"), answer.text
    assert table.state() == before


def test_every_method_has_a_right_body(table):
    """The bodies that the cases start from are ones that the contract allows; reading methods answer 0 to them."""
    for name, body in table.bodies.items():
        operation = contract().find("POST", table.path(name))
        contract().check_request(operation, table.path(name), {}, body)
        if name.startswith(("Get", "Convert")):
            assert table.call(name, body).status == 200, name


def test_C1_null_is_the_same_as_absent(table):
    """Every optional parameter null: the answer is that of the body without them."""
    for name, body in table.bodies.items():
        if not name.startswith(("Get", "Convert")):
            continue
        nulls = {p["name"]: None for p in METHODS[name]["x-parameters"] if p["direction"] != "out" and not p["required"]}
        with_nulls = table.call(name, {**nulls, **body})
        without = table.call(name, body)
        assert with_nulls.status == without.status == 200 and with_nulls.body == without.body, name


def test_C8_enumerations_are_taken_by_number_and_by_name(table):
    """Each value of each enumeration by its CIM name, in other cases and without blanks: the answer is that of its number."""
    for name, parameter in INPUTS:
        if "enum" not in parameter or parameter["array"] or not name.startswith(("Get", "Convert")):
            continue
        for number, text in contract().enums[parameter["enum"]].items():
            by_number = table.call(name, {**table.bodies[name], parameter["name"]: int(number)})
            for spelled in (text, text.upper(), text.replace(" ", "").lower(), text.replace(" ", "_"), text.replace(" ", "-")):
                by_name = table.call(name, {**table.bodies[name], parameter["name"]: spelled})
                same = {k: v for k, v in by_name.body.items() if k != "detail"} == \
                    {k: v for k, v in by_number.body.items() if k != "detail"}
                assert by_name.status == by_number.status and same, (name, parameter["name"], spelled, by_name.text, by_number.text)


def test_uint64_keeps_all_its_digits_and_may_be_a_string(table):
    top = 18446744073709551615
    for value, code in ((top, None), (str(top), None), (top + 1, 5), (str(top + 1), 5), ("007", None)):
        answer = table.call("CreateOrModifyStoragePool", {**table.bodies["CreateOrModifyStoragePool"], "Size": value})
        # Any Size is 1 for a pool of remote LUNs, so what was read well comes that far.
        assert answer["ReturnValue"] == (code or 1), answer.text
