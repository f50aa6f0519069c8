# SPDX-License-Identifier: Apache-2.0
"""Tools of others on hosted volumes: qemu-img, qemu-io, libiscsi's, and a file system that survives what is done to it."""

import os
import random
import shutil
import subprocess

import pytest

import lun as luns
from hosted import Hosted
from process import MIB, SLOWNESS, program, run_quiet

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img") or not shutil.which("iscsi-inq"), reason="qemu-utils or libiscsi-bin is not there")
RAW = ["-f", "raw"]


@pytest.fixture(scope="module")
def array(service):
    return Hosted(service)


def run(*argv):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, errors="replace", timeout=60 * SLOWNESS, check=True).stdout


def write_image(image, url, *options):
    """Flushed at its end, which qemu-img leaves out unless it is told so."""
    run("qemu-img", "convert", "-n", *(options if "-t" in options else ("-t", "writeback", *options)), *RAW, "-O", "raw", image, url)


def read_image(url, image, *options):
    run("qemu-img", "convert", *options, *RAW, "-O", "raw", url, image)
    return image


def same(one, other):
    done = subprocess.run(["qemu-img", "compare", *RAW, "-F", "raw", str(one), str(other)], capture_output=True, text=True,
                          timeout=60 * SLOWNESS, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("options", [[], ["-W", "-m", "16"], ["-S", "0"], ["-t", "none", "-T", "none"]])
def test_qemu_img_converts_to_and_from_a_volume(array, directory, options):
    size = 32 * MIB
    image = directory / "image"
    luns.sparse(image, size, 0.4, seed=len(options) + 1)
    volume = array.make(size)
    url = array.url(volume)
    write_image(image, url, *options)
    assert same(image, url)
    read_image(url, directory / "back", *options)
    luns.assert_equal(image, directory / "back")
    assert array.content(volume) == image.read_bytes()
    # A qcow2 out of it, and another volume out of that.
    run("qemu-img", "convert", *RAW, "-O", "qcow2", url, directory / "image.qcow2")
    again = array.url(array.make(size))
    run("qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", directory / "image.qcow2", again)
    assert same(url, again)
    with open(image, "r+b") as file:
        file.seek(7 * MIB)
        file.write(b"other")
    assert not same(image, url)


def test_holes_of_an_image_take_no_space(array, directory):
    image = directory / "image"
    luns.create(image, 1 << 30)
    luns.fill(image, [(0, MIB), (512 * MIB, MIB)])
    volume = array.make(1 << 30)
    used = array.used()
    write_image(image, array.url(volume))
    assert array.used() <= used + 3 * MIB
    map_of = run("qemu-img", "map", "--output", "json", *RAW, array.url(volume))
    assert map_of.count('"data": true') == 2 and '"zero": true' in map_of, map_of


def test_qemu_io_finds_its_patterns_again(array):
    volume = array.make(16 * MIB)
    chosen = random.Random(1)
    commands, patterns = [], {}
    for _ in range(100):
        place, pattern = chosen.randrange(256), chosen.randrange(1, 256)
        # The same place twice under way has no order.
        commands += ["-c", "aio_flush"] if place in patterns or chosen.random() < 0.1 else []
        commands += ["-c", f"aio_write -q -P {pattern} {place * 65536} 65536"]
        patterns[place] = pattern
    run_quiet(["qemu-io", *RAW, "-t", "none", *commands, "-c", "aio_flush", "-c", "flush", array.url(volume)])
    reads = [word for place, pattern in patterns.items() for word in ("-c", f"read -q -P {pattern} {place * 65536} 65536")]
    reads += [word for place in range(256) if place not in patterns for word in ("-c", f"read -q -P 0 {place * 65536} 65536")]
    assert "Pattern verification failed" not in run_quiet(["qemu-io", *RAW, *reads, array.url(volume)])


def test_libiscsis_tools_say_what_the_volume_is(array):
    volume = array.make(48 * MIB, name="asked")
    shown = array.client.get(volume)
    url = shown["Url"]
    listed = run("iscsi-ls", "-s", "iscsi://" + url.removeprefix("iscsi://").split("/")[0] + "/")
    target = url.rsplit("/", 2)[1]
    assert f"Target:{target}" in listed and "Lun:0" in listed.split(f"Target:{target}")[1].split("Target:")[0], listed
    inquiry = run("iscsi-inq", url)
    assert "SMIRROR" in inquiry and "VOLUME" in inquiry and "DIRECT_ACCESS" in inquiry, inquiry
    assert volume.rsplit("/", 1)[1] in run("iscsi-inq", "-e", "1", "-c", "128", url)
    provisioning = run("iscsi-inq", "-e", "1", "-c", "178", url)
    assert "lbpu:1" in provisioning.replace(" ", "").lower(), provisioning
    assert str(48 * MIB) in run("iscsi-readcapacity16", url)
    array.grow(volume, 96 * MIB)
    assert str(96 * MIB) in run("iscsi-readcapacity16", url)


# ---- a file system

def ext4(directory, name, size, files):
    """A raw image with an ext4 in it that holds these files."""
    tree = directory / f"{name}.tree"
    tree.mkdir()
    for number in range(files):
        below = tree / f"d{number % 7}"
        below.mkdir(exist_ok=True)
        (below / f"f{number}").write_bytes(random.Random(number).randbytes(number * 997 % 50000))
    image = directory / f"{name}.img"
    luns.create(image, size)
    run(program("mkfs.ext4"), "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", "-d", tree, image)
    return image


def check(array, volume, directory, image=None):
    """What is on the volume is a whole file system, and that image where one is given."""
    back = read_image(array.url(volume), directory / f"back{len(os.listdir(directory))}.img")
    done = subprocess.run([program("e2fsck"), "-fn", str(back)], capture_output=True, text=True, timeout=60 * SLOWNESS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if image is not None:
        luns.assert_equal(image, back)
    return back


def test_a_file_system_survives_snapshot_clone_restore_and_growth(array, directory):
    size = 64 * MIB
    first = ext4(directory, "first", size, 200)
    second = ext4(directory, "second", size, 90)
    volume = array.make(size, name="fs")
    write_image(first, array.url(volume))
    check(array, volume, directory, first)
    snapshot, clone = array.replica(volume), array.replica(volume, 8)
    # Another file system over it; the holes of its image have to become zeros.
    with array.host(volume) as session:
        session.discard(0, size)
    write_image(second, array.url(volume))
    check(array, volume, directory, second)
    check(array, snapshot["TargetElement"], directory, first)
    check(array, clone["TargetElement"], directory, first)
    array.modify(snapshot, "Restore from Replica")
    check(array, volume, directory, first)
    kept, = array.client.list("/volumes", ElementName="fs-before-restore-1")
    check(array, kept["self"], directory, second)
    # A change by the tools of the file system, in the image and then on the clone.
    changed = read_image(array.url(clone["TargetElement"]), directory / "changed.img")
    (directory / "new").write_bytes(os.urandom(300000))
    run(program("debugfs"), "-w", "-R", f"write {directory}/new new", changed)
    write_image(changed, array.url(clone["TargetElement"]))
    check(array, clone["TargetElement"], directory)
    check(array, volume, directory, first)
    array.modify(clone, "Restore from Replica")
    back = check(array, volume, directory)
    run(program("debugfs"), "-R", f"dump new {directory}/dumped", back)
    assert (directory / "dumped").read_bytes() == (directory / "new").read_bytes()
    array.grow(volume, 2 * size)
    bigger = read_image(array.url(volume), directory / "bigger.img")
    assert bigger.stat().st_size == 2 * size
    run(program("resize2fs"), "-f", bigger)
    write_image(bigger, array.url(volume))
    array.smirror.restart()
    check(array, volume, directory, bigger)
