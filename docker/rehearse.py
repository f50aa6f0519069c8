#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""docker/rehearse.py BASE [DIR] - the steps of the Dockerfile in chroots, for machines without a Docker engine. Needs root.

BASE is a Debian 12 root, as `debootstrap --variant=minbase bookworm BASE` makes it; it is copied for each stage. At the end the service
of the last stage is started as its user, asked by its HEALTHCHECK, and ended.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]


def instructions():
    text = re.sub(r"^\s*#.*\n", "", (TOP / "docker" / "Dockerfile").read_text(), flags=re.M)
    text = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def inside(root, argv, user=None, cwd="/", environment=None, **kwargs):
    prefix = ["chroot"] + ([f"--userspec={user}"] if user else []) + [str(root)]
    return subprocess.Popen([*prefix, "/bin/sh", "-c", f'cd "{cwd}" && exec "$@"', "sh", *argv],
                            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive",
                                 "LC_ALL": "C.UTF-8", **(environment or {})}, **kwargs)


def run(root, argv, **kwargs):
    if inside(root, argv, **kwargs).wait() != 0:
        sys.exit(f"rehearse: failed: {' '.join(argv)}")


def copy(arguments, source_root, root, cwd, mode=None):
    *sources, target = arguments
    destination = root / (Path(cwd) / target).relative_to("/")
    for source in sources:
        path = source_root / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, destination, dirs_exist_ok=True)
        elif target.endswith("/"):
            destination.mkdir(parents=True, exist_ok=True)
            copied = shutil.copy2(path, destination)
        else:
            destination.parent.mkdir(parents=True, exist_ok=True)
            copied = shutil.copy2(path, destination)
        if mode and not path.is_dir():
            os.chmod(copied, mode)


def stages(base, directory):
    """Builds the stages; the root of the last, and its settings."""
    roots, root, cwd, settings = {}, None, "/", {}
    for word, rest in instructions():
        print(f"{word} {rest[:150]}", flush=True)
        if word == "FROM":
            root, cwd = directory / rest.split()[-1], "/"
            roots[rest.split()[-1]] = root
            subprocess.run(["cp", "-a", base, root], check=True)
            for name in ("null", "urandom", "random", "zero"):
                node = root / "dev" / name
                if not node.exists():
                    subprocess.run(["cp", "-a", f"/dev/{name}", node], check=True)
            shutil.copy2("/etc/resolv.conf", root / "etc/resolv.conf")
        elif word == "WORKDIR":
            cwd = rest
            (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            flags = dict(re.findall(r"--(\w+)=(\S+)", rest))
            arguments = [word for word in rest.split() if not word.startswith("--")]
            copy(arguments, roots[flags["from"]] if "from" in flags else TOP, root, cwd, int(flags.get("chmod", "0"), 8))
        elif word == "RUN":
            run(root, ["/bin/sh", "-c", rest], cwd=cwd)
        elif word == "ENV":
            settings.setdefault("ENV", {}).update(re.findall(r"(\w+)=(\S+)", rest))
        else:
            settings[word] = rest
    return root, {"ENV": {}, **settings, "WORKDIR": cwd}


def main():
    base = Path(sys.argv[1])
    directory = Path(tempfile.mkdtemp(prefix="smirror-rehearse-", dir=sys.argv[2] if len(sys.argv) > 2 else None))
    service = None
    try:
        root, settings = stages(base, directory)
        how = {"user": settings["USER"], "cwd": settings["WORKDIR"], "environment": settings["ENV"]}
        service = inside(root, json.loads(settings["ENTRYPOINT"]) + json.loads(settings["CMD"]), **how)
        health = json.loads(settings["HEALTHCHECK"].split("CMD", 1)[1])
        end = time.monotonic() + 10
        while inside(root, health, **how).wait() != 0:
            if service.poll() is not None or time.monotonic() > end:
                sys.exit("rehearse: not healthy")
            time.sleep(0.2)
        uid = re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{service.pid}/status").read_text(), re.M).group(1)
        assert uid != "0", "it runs as root"
        service.terminate()
        assert service.wait(10) == 0, "it did not end in order"
        size = subprocess.run(["du", "-sm", root], capture_output=True, text=True, check=True).stdout.split()[0]
        print(f"rehearse: healthy as uid {uid}, ended in order; the last stage has {size} MiB")
    finally:
        if service is not None and service.poll() is None:
            service.kill()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if os.geteuid() != 0 or len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
