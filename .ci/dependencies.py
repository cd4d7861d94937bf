"""Holds what Cargo.lock names against deny.toml: licences and sources. `cargo deny check` does that too, and looks for advisories; it takes ten
minutes to build, and its advisories come from elsewhere than a package registry.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))


def is_allowed(expression):
    """Whether one alternative of an SPDX expression has nothing but licences that are allowed."""
    alternatives = re.split(r"\)?\s+OR\s+\(?|/", expression or "none")
    return any(all(part.strip(" ()") in RULES["licenses"]["allow"] for part in re.split(r"\s+AND\s+", one)) for one in alternatives)


metadata = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked"]
found = json.loads(subprocess.check_output(metadata, cwd=ROOT))
used = {node["id"] for node in found["resolve"]["nodes"]}
packages = [package for package in found["packages"] if package["id"] in used and package["source"]]
sources = {f"registry+{source}" for source in RULES["sources"]["allow-registry"]}
wrong = [f"{p['name']} {p['version']}: licence {p['license']}" for p in packages if not is_allowed(p["license"])]
wrong += [f"{p['name']} {p['version']}: from {p['source']}" for p in packages if p["source"] not in sources]
assert len(packages) > 100, len(packages)
print(f"{len(packages)} packages, {len(wrong)} that deny.toml does not allow", *wrong, sep="\n  ")
sys.exit(bool(wrong))
