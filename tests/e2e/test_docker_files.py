# SPDX-License-Identifier: Apache-2.0
"""docker/ without a Docker engine: what its files name exists."""

import json
import re
import subprocess

import yaml

from process import SMIRRORD, TOP

DOCKERFILE = (TOP / "docker" / "Dockerfile").read_text()


def instructions():
    """(word, rest) of each instruction, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.M)
    text = re.sub(r"\\\n\s*", " ", text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_everything_that_is_copied_is_in_the_repository():
    for word, rest in instructions():
        if word != "COPY":
            continue
        arguments = [part for part in rest.split() if not part.startswith("--")]
        if "--from=" in rest:
            continue
        tracked = subprocess.run(["git", "-C", TOP, "ls-files", "--", *arguments[:-1]], capture_output=True, text=True).stdout.split()
        for source in arguments[:-1]:
            assert (TOP / source).exists(), source
            assert not tracked or any(name == source.rstrip("/") or name.startswith(source.rstrip("/") + "/") for name in tracked), source


def test_every_folder_of_the_build_is_copied():
    folders = re.search(r"^foreach\(folder ([a-z ]+)\)", (TOP / "CMakeLists.txt").read_text(), re.M).group(1).split()
    copied = {rest.split()[0] for word, rest in instructions() if word == "COPY"}
    assert {"service", "target", "hosting"} <= set(folders) <= copied, set(folders) - copied


def test_packages_come_from_the_one_list_by_tags_that_exist():
    tags = re.findall(r"\$\(\S*packages\.sh ([a-z ]+)\)", DOCKERFILE)
    assert set(tags) == {"build", "runtime"}, "the Dockerfile takes its packages from packages.txt"
    for words in tags:
        done = subprocess.run([TOP / "scripts/packages.sh", *words.split()], capture_output=True, text=True, check=True)
        assert done.stdout.split()
    installs = re.findall(r"apt-get install([^&|;]*?)\$\(", DOCKERFILE)
    assert len(installs) == DOCKERFILE.count("apt-get install")
    for arguments in installs:
        named = [word for word in arguments.split() if not word.startswith(("-", "$", "\\"))]
        assert not named, f"packages that are not in packages.txt: {named}"


def test_the_runtime_libraries_are_those_that_the_binary_is_linked_with():
    wanted = re.findall(r"NEEDED\s+(\S+)", subprocess.run(["objdump", "-p", SMIRRORD], capture_output=True, text=True, check=True).stdout)
    linked = dict(re.findall(r"(\S+) => (/\S+)", subprocess.run(["ldd", SMIRRORD], capture_output=True, text=True, check=True).stdout))
    needed = set()
    for name in wanted:
        # The loader names /lib, dpkg may know the same file as /usr/lib.
        owners = [subprocess.run(["dpkg", "-S", path], capture_output=True, text=True).stdout.split(":")[0]
                  for path in (linked[name], linked[name].replace("/lib/", "/usr/lib/", 1))]
        needed.add(next(owner for owner in owners if owner))
    runtime = set(subprocess.run([TOP / "scripts/packages.sh", "runtime"], capture_output=True, text=True, check=True).stdout.split())
    base = {"libc6", "libgcc-s1", "libasan8", "libubsan1", "libtsan2"}
    assert needed - base <= runtime, needed - base - runtime
    assert runtime - needed == {"curl"}, "what is installed and not needed"


def test_it_runs_as_an_ordinary_user_with_a_health_check_and_volumes():
    words = dict(instructions())
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users and users[-1].split(":")[0] not in ("root", "0")
    assert "HEALTHCHECK" in words and "/healthz" in words["HEALTHCHECK"]
    assert "VOLUME" in words
    entry = json.loads(words["ENTRYPOINT"])
    assert entry[0].endswith("smirrord")


def test_every_stage_that_is_named_exists():
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.M)
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.M)) >= 2
    for used in re.findall(r"--from=(\w+)", DOCKERFILE):
        assert used in stages
    assert all(image == "debian:12-slim" for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.M) if image not in stages)


def test_the_compose_file_builds_this_dockerfile_and_keeps_its_data():
    compose = yaml.safe_load((TOP / "docker" / "compose.yaml").read_text())
    service, = compose["services"].values()
    assert (TOP / "docker" / service["build"]["context"]).resolve() == TOP
    assert (TOP / service["build"]["dockerfile"]).exists()
    mounted = [volume.split(":")[0] for volume in service["volumes"]]
    assert mounted and set(mounted) <= set(compose["volumes"])
    assert not service.get("privileged")
    assert service["cap_drop"] == ["ALL"]
    # Nothing is published beyond this host without being asked for.
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_options_of_the_container_are_ones_that_smirrord_knows():
    options = [word for word in json.loads([rest for word, rest in instructions() if word == "CMD"][-1]) if word.startswith("--")]
    assert options
    told = subprocess.run([SMIRRORD, "--help"], capture_output=True, text=True, check=True).stdout
    for option in options:
        assert option in told, option
