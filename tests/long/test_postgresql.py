"""A real PostgreSQL with the values of the compose file: its health check, its secret, what Temporal makes."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.files import DOCKER, compose_services
from tests.support.health import free_port
from tests.support.programs import find, needs

pytestmark = needs("initdb", "postgres", "pg_isready", "psql")

SECONDS = 30
SERVICE = compose_services()["postgresql"]
USER = SERVICE["environment"]["POSTGRES_USER"]


@dataclass(frozen=True)
class Database:
    """A server that runs, and the folder with its secrets."""

    folder: Path
    port: int

    def run(self, *command: str, password: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command that finds the server, and the client's programs, by its environment."""
        program = find("pg_isready")
        assert program
        environ = {"PATH": f"{Path(program).parent}:{os.environ['PATH']}", "PGPASSWORD": password}
        environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.port)}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    def query(self, statement: str, *, database: str = USER, password: str | None = None) -> str:
        """Return what a statement says, or what went wrong."""
        if password is None:
            password = (self.folder / "docker/secrets/postgres_password").read_text()
        asked = ("psql", "-U", USER, "-d", database, "-tA", "-c", statement)
        ended = self.run(*asked, password=password)
        return (ended.stdout or ended.stderr).strip()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    """A server as the image's entry point makes it: with that user, its password, and a database of its name."""
    folder = Path(tempfile.mkdtemp(prefix="perdure-postgresql-"))
    (folder / "docker/secrets").mkdir(parents=True)
    script = shutil.copy(DOCKER / "make-secrets.sh", folder / "docker")
    subprocess.run(["sh", script], check=True, capture_output=True)
    account = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    if account:
        folder.chmod(0o755)
        (folder / "data").mkdir()
        entry = pwd.getpwnam(account)
        os.chown(folder / "data", entry.pw_uid, entry.pw_gid)
    secret, data, port = folder / "docker/secrets/postgres_password", folder / "data", free_port()
    initdb, postgres = find("initdb"), find("postgres")
    assert initdb
    assert postgres
    made = [initdb, "-D", str(data), f"--username={USER}", f"--pwfile={secret}", "--auth=scram-sha-256"]
    subprocess.run(made, check=True, capture_output=True, user=account)
    command = [postgres, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, user=account)
    running = Database(folder, port)
    try:
        _until_ready(running)
        assert running.query(f"CREATE DATABASE {USER}", database="postgres") == "CREATE DATABASE"
        yield running
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


def _until_ready(database: Database) -> None:
    deadline = time.monotonic() + SECONDS
    while database.run("pg_isready").returncode:
        assert time.monotonic() < deadline, "it doesn't get ready"
        time.sleep(0.1)


def test_the_health_check_answers(database: Database) -> None:
    kind, command = SERVICE["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    ended = database.run("sh", "-c", command)
    assert (ended.returncode, ended.stdout.rpartition(" - ")[2].strip()) == (0, "accepting connections")


def test_the_secret_opens_it_and_nothing_else_does(database: Database) -> None:
    assert database.query("SELECT current_user") == USER
    assert "password authentication failed" in database.query("SELECT 1", password="wrong")
    secret = database.folder / "docker/secrets/postgres_password"
    assert len(secret.read_text()) == 48
    assert secret.stat().st_mode & 0o777 == 0o644, "the containers' users aren't this one"


def test_the_user_may_make_what_temporal_needs(database: Database) -> None:
    """The second database, and the extension that the schema of the visibility store creates."""
    assert database.query("CREATE DATABASE temporal_visibility") == "CREATE DATABASE"
    made = database.query("CREATE EXTENSION btree_gin", database="temporal_visibility")
    assert made == "CREATE EXTENSION"
    for name in ("temporal", "temporal-schema"):
        environment = compose_services()[name]["environment"]
        assert USER in (environment.get("POSTGRES_USER"), environment.get("SQL_USER"))
