# SPDX-License-Identifier: Apache-2.0
"""Replication pipes for tests: portals of one array behind proxies, a pipe over them, and what its pairs say."""

from faults import Proxy

METHOD = "CreateOrModifyReplicationPipe"
LOCAL = "/systems/local"


def portal(client, address, system=None):
    """(access point, endpoint, system)"""
    point = {"AccessInfo": address}
    if system:
        point["SystemName"] = system
    path = client.method("AddServiceAccessPoint", {"ServiceAccessPoint": point}, expect=200)["ServiceAccessPointPath"]
    return path, path.replace("accesspoints", "endpoints"), client.get(path)["System"]


def initiators(n):
    return ["/endpoints/initiator"] + [f"/endpoints/initiator-{i}" for i in range(2, n + 1)]


def pipe(client, target, source=LOCAL, expect=200, **more):
    return client.method(METHOD, {"SourceSystem": source, "TargetSystem": target, **more}, expect=expect)["ReplicationPipe"]


def children(client, path):
    return [client.get(child) for child in client.get(path)["Children"]]


class Ways:
    """n proxies in front of a portal (port of 127.0.0.1), registered as portals of one system."""

    def __init__(self, client, port, n=2):
        self.client = client
        self.proxies = [Proxy(port, host=f"127.0.0.{i + 1}") for i in range(n)]
        self.system = None
        self.points = []
        self.endpoints = []
        for proxy in self.proxies:
            point, endpoint, self.system = portal(client, proxy.portal, self.system)
            self.points.append(point)
            self.endpoints.append(endpoint)

    def pipe(self, **more):
        n = len(self.proxies)
        return pipe(self.client, self.system, SourceEndpoint=initiators(n), TargetEndpoint=self.endpoints, **more)

    def url(self, lun):
        return lun.url_at(self.proxies[0].portal)

    def close(self):
        for proxy in self.proxies:
            proxy.close()
