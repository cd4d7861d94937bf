"""What checks need from pip, by lock files: installed once and kept in `target/`; another lock file gets another folder."""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent


def installed(lock):
    """The folder of what a lock file names, to be put into Python's path."""
    lock = ROOT / lock
    folder = ROOT / "target" / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input"]
            subprocess.run([*pip, "--target", f"{unfinished}/all", "-r", lock], check=True)
            os.rename(f"{unfinished}/all", folder)
    return folder
