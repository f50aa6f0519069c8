# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy between smirrord and an array: slow, stuck, cut, refusing; it counts what goes through."""

import select
import socket
import threading
import time


class Proxy:
    def __init__(self, port, host="127.0.0.1"):
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server((host, 0))
        self.host = host
        self.port = self._listener.getsockname()[1]
        self.delay = 0.0     # seconds, before each piece goes on
        self.stuck = False   # nothing goes on, connections stay open
        self.refuse = False  # new connections are closed at once
        self.cut_after = None  # bytes towards the array after which every connection is cut, once
        self.sent = 0        # bytes towards the array
        self.received = 0    # bytes from it
        self.connections = 0
        self._pairs = set()
        self._lock = threading.Lock()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def portal(self):
        return f"{self.host}:{self.port}"

    def cut(self):
        """Ends every connection, with a reset."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for sock in pair:
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def holds(self):
        """Is something on its way to the array that does not go on?"""
        with self._lock:
            clients = [client for client, _ in self._pairs]
        return self.stuck and bool(select.select(clients, [], [], 0)[0])

    def close(self):
        self._closed = True
        self._listener.close()
        self.cut()

    def _accept(self):
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            try:
                server = socket.create_connection(self._to, 5)
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            self.connections += 1
            with self._lock:
                self._pairs.add((client, server))
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    def _carry(self, client, server):
        other = {client: server, server: client}
        try:
            while True:
                ready, _, _ = select.select([client, server], [], [], 0.2)
                while self.stuck and not self._closed:
                    time.sleep(0.01)
                for sock in ready:
                    data = sock.recv(1 << 18)
                    if not data:
                        return
                    if self.delay:
                        time.sleep(self.delay)
                    if sock is client:
                        self.sent += len(data)
                        if self.cut_after is not None and self.sent >= self.cut_after:
                            self.cut_after = None
                            self.cut()
                            return
                    else:
                        self.received += len(data)
                    other[sock].sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._pairs.discard((client, server))
            for sock in (client, server):
                sock.close()
