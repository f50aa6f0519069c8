# SPDX-License-Identifier: Apache-2.0
"""A host of hosted volumes: logs in to a LUN with libiscsi (the C library that qemu uses), reads and writes it."""

import ctypes
import ctypes.util
from contextlib import contextmanager

import lun as luns

BLOCK = 512
_PIECE = 1 << 20


class _Sense(ctypes.Structure):
    _fields_ = [("error_type", ctypes.c_ubyte), ("key", ctypes.c_int), ("ascq", ctypes.c_int), ("bits", ctypes.c_ubyte),
                ("bit_pointer", ctypes.c_ubyte), ("field_pointer", ctypes.c_uint16)]


class _Extent(ctypes.Structure):
    _fields_ = [("lba", ctypes.c_uint64), ("num", ctypes.c_uint32)]


class _Data(ctypes.Structure):
    _fields_ = [("size", ctypes.c_int), ("data", ctypes.c_void_p)]


class _Task(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("cdb_size", ctypes.c_int), ("xfer_dir", ctypes.c_int), ("expxferlen", ctypes.c_int),
                ("cdb", ctypes.c_ubyte * 16), ("residual_status", ctypes.c_int), ("residual", ctypes.c_size_t), ("sense", _Sense),
                ("datain", _Data)]


class _Reserve(ctypes.Structure):
    _fields_ = [("reservation_key", ctypes.c_uint64), ("service_action_reservation_key", ctypes.c_uint64), ("spec_i_pt", ctypes.c_uint8),
                ("all_tg_pt", ctypes.c_uint8), ("aptpl", ctypes.c_uint8)]


def _library():
    library = ctypes.CDLL(ctypes.util.find_library("iscsi"))
    pointer, task = ctypes.c_void_p, ctypes.POINTER(_Task)
    for name, result, arguments in (
            ("iscsi_create_context", pointer, [ctypes.c_char_p]),
            ("iscsi_destroy_context", ctypes.c_int, [pointer]),
            ("iscsi_get_error", ctypes.c_char_p, [pointer]),
            ("iscsi_set_targetname", ctypes.c_int, [pointer, ctypes.c_char_p]),
            ("iscsi_set_alias", ctypes.c_int, [pointer, ctypes.c_char_p]),
            ("iscsi_set_session_type", ctypes.c_int, [pointer, ctypes.c_int]),
            ("iscsi_set_timeout", ctypes.c_int, [pointer, ctypes.c_int]),
            ("iscsi_set_noautoreconnect", None, [pointer, ctypes.c_int]),
            ("iscsi_set_initiator_username_pwd", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_char_p]),
            ("iscsi_set_target_username_pwd", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_char_p]),
            ("iscsi_persistent_reserve_in_sync", task, [pointer, ctypes.c_int, ctypes.c_int, ctypes.c_uint16]),
            ("iscsi_persistent_reserve_out_sync", task, [pointer, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int, pointer]),
            ("iscsi_full_connect_sync", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_int]),
            ("iscsi_logout_sync", ctypes.c_int, [pointer]),
            ("iscsi_testunitready_sync", task, [pointer, ctypes.c_int]),
            ("iscsi_readcapacity16_sync", task, [pointer, ctypes.c_int]),
            ("iscsi_read16_sync", task, [pointer, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32] + [ctypes.c_int] * 6),
            ("iscsi_write16_sync", task, [pointer, ctypes.c_int, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_uint32]
             + [ctypes.c_int] * 6),
            ("iscsi_synchronizecache16_sync", task, [pointer, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_int, ctypes.c_int]),
            ("iscsi_unmap_sync", task, [pointer] + [ctypes.c_int] * 3 + [ctypes.POINTER(_Extent), ctypes.c_int]),
            ("scsi_free_scsi_task", None, [task])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_iscsi = _library()


class ScsiError(AssertionError):
    def __init__(self, what, status, key, ascq):
        super().__init__(f"{what}: status {status:#x}, sense {key:x}/{ascq:04x}")
        self.status, self.key, self.ascq = status, key, ascq


class Initiator:
    """A session. The address is iscsi://portal/target/lun."""

    def __init__(self, url, name="iqn.2026-11.test:host", timeout=20, chap=None, mutual=None, alias=None):
        """chap: (user, secret) with which we prove ourselves; mutual: those that the target has to prove."""
        portal, target, number = url.removeprefix("iscsi://").rsplit("/", 2)
        self.number = int(number)
        self.attentions = []  # of the last command
        self.seen = set()     # of all
        self.context = _iscsi.iscsi_create_context(name.encode())
        _iscsi.iscsi_set_targetname(self.context, target.encode())
        _iscsi.iscsi_set_session_type(self.context, 2)
        _iscsi.iscsi_set_timeout(self.context, timeout)
        _iscsi.iscsi_set_noautoreconnect(self.context, 1)
        if alias:
            _iscsi.iscsi_set_alias(self.context, alias)
        if chap:
            _iscsi.iscsi_set_initiator_username_pwd(self.context, *(text.encode() for text in chap))
        if mutual:
            _iscsi.iscsi_set_target_username_pwd(self.context, *(text.encode() for text in mutual))
        if _iscsi.iscsi_full_connect_sync(self.context, portal.encode(), self.number) != 0:
            text = _iscsi.iscsi_get_error(self.context).decode()
            _iscsi.iscsi_destroy_context(self.context)
            self.context = None
            raise ConnectionError(f"{url}: {text}")

    def close(self):
        if self.context is not None:
            _iscsi.iscsi_logout_sync(self.context)
            _iscsi.iscsi_destroy_context(self.context)
            self.context = None

    def _done(self, what, task, attention):
        """The data that came in. A unit attention (the LUN was replaced, say) is taken note of and None is returned."""
        if not task:
            raise ConnectionError(f"{what}: {_iscsi.iscsi_get_error(self.context).decode()}")
        got = task.contents
        try:
            if got.status == 0:
                return ctypes.string_at(got.datain.data, got.datain.size) if got.datain.data else b""
            if got.status == 2 and got.sense.key == 6 and attention is not None:
                attention.append(got.sense.ascq)
                return None
            raise ScsiError(what, got.status, got.sense.key, got.sense.ascq)
        finally:
            _iscsi.scsi_free_scsi_task(task)

    def _again(self, what, command):
        """Once more after each unit attention."""
        self.attentions = []
        for _ in range(8):
            result = self._done(what, command(), self.attentions)
            if result is not None:
                return result
            self.seen.add(self.attentions[-1])
        raise AssertionError(f"{what}: unit attentions without end, {self.attentions}")

    def read(self, offset, length):
        result = b""
        while length > 0:
            piece = min(length, _PIECE)
            result += self._again(f"read {piece} at {offset}", lambda at=offset, n=piece: _iscsi.iscsi_read16_sync(
                self.context, self.number, at // BLOCK, n, BLOCK, 0, 0, 0, 0, 0))
            offset, length = offset + piece, length - piece
        return result

    def write(self, offset, data):
        for at in range(0, len(data), _PIECE):
            piece = data[at:at + _PIECE]
            self._again(f"write {len(piece)} at {offset + at}", lambda a=offset + at, p=piece: _iscsi.iscsi_write16_sync(
                self.context, self.number, a // BLOCK, p, len(p), BLOCK, 0, 0, 0, 0, 0))

    def discard(self, offset, length):
        extent = _Extent(offset // BLOCK, length // BLOCK)
        self._again(f"discard {length} at {offset}", lambda: _iscsi.iscsi_unmap_sync(
            self.context, self.number, 0, 0, ctypes.byref(extent), 1))

    def flush(self):
        self._again("flush", lambda: _iscsi.iscsi_synchronizecache16_sync(self.context, self.number, 0, 0, 0, 0))

    def size(self):
        got = self._again("read capacity", lambda: _iscsi.iscsi_readcapacity16_sync(self.context, self.number))
        return (int.from_bytes(got[:8], "big") + 1) * int.from_bytes(got[8:12], "big")

    # ---- persistent reservations

    def register(self, key, durable=True):
        """REGISTER AND IGNORE EXISTING KEY; durable: APTPL, over a loss of power."""
        basic = _Reserve(reservation_key=0, service_action_reservation_key=key, aptpl=durable)
        self._again("register", lambda: _iscsi.iscsi_persistent_reserve_out_sync(self.context, self.number, 6, 0, 0, ctypes.byref(basic)))

    def reserve(self, key):
        """Write exclusive."""
        basic = _Reserve(reservation_key=key)
        self._again("reserve", lambda: _iscsi.iscsi_persistent_reserve_out_sync(self.context, self.number, 1, 0, 1, ctypes.byref(basic)))

    def clear(self, key):
        """No reservation and no key is left."""
        basic = _Reserve(reservation_key=key)
        self._again("clear", lambda: _iscsi.iscsi_persistent_reserve_out_sync(self.context, self.number, 3, 0, 0, ctypes.byref(basic)))

    def keys(self):
        got = self._again("read keys", lambda: _iscsi.iscsi_persistent_reserve_in_sync(self.context, self.number, 0, 1024))
        return {int.from_bytes(got[at:at + 8], "big") for at in range(8, 8 + int.from_bytes(got[4:8], "big"), 8)}

    # ---- stamps (lun.py)

    def fill(self, offset, length, writer=1, sequence=1):
        self.write(offset, b"".join(luns.stamp(at, writer, sequence) for at in range(offset, offset + length, luns.BLOCK)))

    def writers(self, offset, length):
        """Who has written the blocks of that range: a set of writers, None in it for zeros."""
        data = self.read(offset, length)
        found = set()
        for at in range(0, length, luns.BLOCK):
            stamp = luns.read_stamp(data[at:at + luns.BLOCK], offset + at)
            found.add(stamp[0] if stamp else None)
        return found


@contextmanager
def host(url, **options):
    initiator = Initiator(url, **options)
    try:
        yield initiator
    finally:
        initiator.close()
