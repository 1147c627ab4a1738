"""The programs that tests meet: Debian's Mosquitto, PostgreSQL, Chromium and Prometheus. As a program: installs what is missing; exits with 1 if it cannot.

With `PEERWATT_REQUIRE_SERVICES=1` a test that finds none fails, where it would be skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

REQUIRED = "PEERWATT_REQUIRE_SERVICES"
_PROGRAMS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def mosquitto() -> str | None:
    """The broker's program."""
    return shutil.which("mosquitto", path=_PROGRAMS)


def postgresql() -> Path | None:
    """The folder with the newest PostgreSQL server's programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3])
    )
    return found[-1].parent if found else None


def chromium() -> str | None:
    """The browser's program."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    return None


def promtool() -> str | None:
    """What checks Prometheus' files, alerts and all."""
    return shutil.which("promtool")


def prometheus() -> str | None:
    """Prometheus itself; of the same package."""
    return shutil.which("prometheus")


def mosquitto_passwd() -> str | None:
    """What makes the broker's file of passwords; of the same package."""
    return shutil.which("mosquitto_passwd", path=_PROGRAMS)


def missing() -> list[str]:
    """Debian packages that are not there."""
    present = {
        "mosquitto": mosquitto(),
        "postgresql": postgresql(),
        "chromium": chromium(),
        "prometheus": promtool(),
    }
    return [name for name, found in present.items() if found is None]


def absent(package: str) -> NoReturn:
    """Skips the test that needs a server; or fails, where servers are required."""
    import pytest

    message = f"no {package} here: apt-get install {package}"
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(message)
    pytest.skip(message)


def install() -> bool:
    """Installs what is missing with apt-get, as root; whether all is there afterwards."""
    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (
            ["update", "-qq"],
            ["install", "-y", "-qq", "--no-install-recommends", *packages],
        ):
            # What it says goes to standard error, where CI shows it.
            subprocess.run(["apt-get", *arguments], env=environment, stdout=sys.stderr, check=False)
    packages = missing()
    if packages:
        print(
            f"tests: no {' and no '.join(packages)} (apt-get install, as root): "
            "tests that meet them are skipped",
            flush=True,
        )
    return not packages


if __name__ == "__main__":
    sys.exit(0 if install() else 1)
