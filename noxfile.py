"""Every check of the project, the quick ones first.

`nox` runs them all in the one pinned environment that it was installed into.
"""

import logging
import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "none"
nox.options.sessions = [
    "services",
    "style",
    "shape",
    "deps",
    "types",
    "docs",
    "demo",
    "conformance",
    "browser",
    "tests",
]

# Sessions share the environment of nox itself, which need not be activated.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

CONFORMANCE = "tests/api/test_conformance.py"
BROWSER = ("tests/browser", "tests/oidc/test_browser.py")
POSTGRESQL = "/usr/lib/postgresql/*/bin/initdb"


def missing_packages() -> list[str]:
    missing = []
    if shutil.which("chromium") is None:
        missing += ["chromium", "fonts-dejavu-core"]
    if not any(Path("/").glob(POSTGRESQL.lstrip("/"))):
        missing += ["postgresql"]
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        missing += ["nginx"]
    if shutil.which("redis-server") is None:
        missing += ["redis-server"]
    return missing


@nox.session
def services(session: nox.Session) -> None:
    """Install the Debian packages that the tests need, where they are missing."""
    missing = missing_packages()
    if not missing:
        session.log("they are all here")
        return
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        session.error(f"the tests need more programs; as root: {' '.join(install)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    session.run("apt-get", "update", "-qq", external=True)
    session.run(*install, external=True, env=quiet, silent=True)


@nox.session
def style(session: nox.Session) -> None:
    """Lint, and check the formatting."""
    session.run("ruff", "check", "--quiet", ".")
    session.run("ruff", "format", "--quiet", "--check", ".")


@nox.session
def shape(session: nox.Session) -> None:
    """Check that modules import only downwards."""
    session.run("lint-imports", silent=True)


@nox.session
def deps(session: nox.Session) -> None:
    """Check that what is imported is declared, and the other way round."""
    session.run("deptry", "src", silent=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the product, its tests and this file."""
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Check that the documents' links lead somewhere and their commands are the real ones."""
    session.run("pytest", "--quiet", "tests/docs")


@nox.session
def demo(session: nox.Session) -> None:
    """Start the demonstration, ask it for its dashboard, and stop it."""
    session.run("vmtrak", "demo", "--port", "0", "--check")


@nox.session
def conformance(session: nox.Session) -> None:
    """Send what schemathesis makes of the OpenAPI document; measured, it would take for ever."""
    session.run("pytest", "--quiet", CONFORMANCE)


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the panel in Chromium, not measured: its driver's greenlets lock coverage up."""
    session.run("pytest", "--quiet", *BROWSER)


@nox.session
def tests(session: nox.Session) -> None:
    """Run all other tests, on SQLite and PostgreSQL, with branch coverage."""
    # From here on only pytest speaks, so that its summary is the last line of a run.
    logging.disable(logging.CRITICAL)
    left_out = [f"--ignore={path}" for path in (CONFORMANCE, *BROWSER)]
    session.run("pytest", "--cov", *left_out, *session.posargs)


@nox.session(venv_backend="venv", default=False)
def audit(session: nox.Session) -> None:
    """Ask the registry whether a pinned version is known to be vulnerable."""
    session.install("pip-audit>=2.9,<3")
    session.run("pip-audit", "--disable-pip", "--require-hashes", "-r", "requirements.txt")


@nox.session(default=False)
def pins(session: nox.Session) -> None:
    """Write both requirements files anew from pyproject.toml (needs uv)."""
    options = ["--universal", "--python-version=3.11", "--generate-hashes", "--no-annotate"]
    options += ["--no-header", "--no-emit-index-url", "--no-emit-find-links", *session.posargs]
    for group, file in (("dev", "requirements-dev.txt"), ("build", "requirements.txt")):
        # The second file may hold only what the first one holds.
        limit = [] if group == "dev" else ["--constraint=requirements-dev.txt"]
        command = ["uv", "pip", "compile", "--quiet", "pyproject.toml", f"--group={group}"]
        session.run(*command, *options, *limit, f"--output-file={file}", external=True)
