"""Builds the wheel that carries the binary into target/wheels, installs it into an empty virtual environment, and runs the demo from there.

    wheel.py     takes what `cargo build --release --package kindred --features full` has built; what is missing is built first, which takes as long as that

Needs Cargo, and a Python with pip and venv.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

from demo import Demo, ask
from packages import ROOT, installed

WHEELS = ROOT / "target" / "wheels"
# Of a file that somebody downloads.
LIMIT_MB = 40
# To fetch models and texts (115 MB) and to embed 8,000 documents: a minute on two cores.
LIMIT_S = 600


def build():
    shutil.rmtree(WHEELS, ignore_errors=True)
    maturin = installed(".ci/wheel.lock") / "bin" / "maturin"
    # check: a wheel that needs more of a system than manylinux promises is an error, and not mended by copying libraries into it.
    command = [maturin, "build", "--release", "--auditwheel", "check", "--out", WHEELS]
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT / "deploy" / "wheel", check=True)
    [wheel] = WHEELS.glob("*.whl")
    print(f"built in {time.monotonic() - started:.1f} s", flush=True)
    return wheel


def check(wheel):
    """One program, and the tag of the glibc that it needs."""
    with zipfile.ZipFile(wheel) as files:
        programs = [name for name in files.namelist() if "/scripts/" in name]
        assert [Path(name).name for name in programs] == ["kindred"], f"not the one program: {programs}"
        assert any(name.endswith("/licenses/LICENSE") for name in files.namelist()), "the licence is missing"
        binary = files.read(programs[0])
    size_mb = wheel.stat().st_size / 1e6
    print(f"{wheel.name}: {size_mb:.1f} MB, the binary in it {len(binary) / 1e6:.1f} MB", flush=True)
    assert size_mb <= LIMIT_MB, f"a wheel may have {LIMIT_MB} MB: does the release profile keep debug information?"
    if sys.platform == "linux":
        glibc = max(int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", binary))
        tags = re.findall(r"manylinux_2_(\d+)_", wheel.name)
        assert tags and int(tags[0]) == glibc, f"the binary needs glibc 2.{glibc}, and the wheel says {wheel.name}"


def run(wheel, folder):
    """In an environment that is not activated, and where the Python of the path has no pip."""
    try:
        venv.create(folder / "environment", with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit("this Python makes no virtual environments with pip (on Debian: apt-get install python3-venv)")
    venv.create(folder / "without-pip", with_pip=False)
    there = folder / "environment" / "bin"
    subprocess.run([there / "pip", "install", "--quiet", "--no-index", wheel], check=True)
    print(subprocess.check_output([there / "kindred", "--version"], text=True).strip(), flush=True)
    # Models and data are written where it is run.
    empty = folder / "empty"
    empty.mkdir()
    os.chdir(empty)
    with Demo(there / "kindred", "index_data", LIMIT_S, PATH=str(folder / "without-pip" / "bin")):
        hits = ask("/v1/collections/jobs/search", {"query": {"text": "look after sick animals"}, "limit": 3})["hits"]
        print([hit["fields"]["title"] for hit in hits], flush=True)
        assert len(hits) == 3, hits
    assert sorted(os.listdir()) == ["index_data", "models"], os.listdir()
    os.chdir(ROOT)


built = build()
check(built)
with tempfile.TemporaryDirectory() as work:
    run(built, Path(work))
print("the wheel is well")
