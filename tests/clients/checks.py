"""What the scripts of all clients do when something is not as it should be."""

import sys

n_checks = 0


def check(condition, what):
    global n_checks
    n_checks += 1
    if not condition:
        sys.exit(f"not so: {what}")


def done():
    print(f"{n_checks} checks hold")
