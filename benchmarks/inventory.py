"""An inventory of any size, written in bulk: the same columns that the operations would fill."""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from sqlalchemy import insert

from vmtrak import schema
from vmtrak.access import SYSTEM, Role
from vmtrak.accounts import NewUser, actors, sessions, users
from vmtrak.accounts.access_tokens import SessionRules
from vmtrak.db import Database, now
from vmtrak.inventory import VM, Environment, Hypervisor, NewHypervisor, PowerState, Status
from vmtrak.inventory import hypervisors as hosts

BATCH = 5_000
SITES = ("rtm", "pnq", "gdn", "iad", "syd")
APPLICATIONS = ("erp", "wms", "mail", "files", "build", "grafana", "kafka", "pg", "ad", "web")
DEPARTMENTS = tuple(f"Department {n:02}" for n in range(24))


def make(database: Database, size: int, seed: int = 7) -> None:
    """Migrate, then add 200 hypervisors, 1,000 owners' worth of names and `size` VMs."""
    schema.migrate(database)
    with database.work(SYSTEM) as work:
        numbers = [hosts.add(work, NewHypervisor(name=f"host-{n:03}")).id for n in range(200)]
        users.add(
            work,
            NewUser.model_validate(
                {
                    "username": "bench",
                    "email": "bench@vmtrak.example",
                    "role": Role.READWRITE,
                    "password": "measure twice cut once",
                }
            ),
        ).must_change_password = False
    rows = _rows(size, numbers, random.Random(seed))
    while batch := [row for row, _ in zip(rows, range(BATCH), strict=False)]:
        with database.engine.execution_options(vmtrak_writes=True).begin() as connection:
            connection.execute(insert(VM.__table__), batch)  # type: ignore[arg-type]  # declared as FromClause, is a Table


def token(database: Database, rules: SessionRules) -> str:
    with database.work(actors.visitor("127.0.0.1", None)) as work:
        user = users.named(work.session, "bench")
        assert user is not None
        return sessions.sign_in_api(work, user.id, rules, "benchmark").access


def cookie(database: Database) -> str:
    with database.work(actors.visitor("127.0.0.1", None)) as work:
        user = users.named(work.session, "bench")
        assert user is not None
        return sessions.sign_in_panel(work, user.id, "benchmark")


def _rows(size: int, hypervisors: list[int], chance: random.Random) -> Iterator[dict[str, Any]]:
    today, moment = date(2026, 11, 22), now()
    for n in range(size):
        site, application = chance.choice(SITES), chance.choice(APPLICATIONS)
        host = chance.randrange(200)
        vm = VM(
            vm_name=f"{site}-{application}-{n:07}",
            vm_tag=f"tag-{n % 97}",
            description=f"{application} at {site}",
            hypervisor_id=hypervisors[host],
            cluster=f"cluster-{host % 20}",
            datacenter=site.upper(),
            os_type=chance.choice(("Windows", "Linux", "Linux")),
            os_version=chance.choice(("Ubuntu 24.04 LTS", "Debian 12", "Windows Server 2022")),
            hostname=f"{application}{n}.{site}.vmtrak.example",
            ip_address=f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}",
            vlan=str(100 + n % 50),
            mac_address=f"00:50:56:{n >> 16 & 255:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
            vcpu=chance.choice((1, 2, 4, 8)),
            ram_gb=chance.choice((2, 4, 8, 16, 32)),
            disk_gb=chance.choice((20, 40, 100, 500)),
            power_state=chance.choices([p.value for p in PowerState], (80, 15, 2, 3))[0],
            environment=chance.choices([e.value for e in Environment], (40, 20, 25, 15))[0],
            status=chance.choices([s.value for s in Status], (85, 10, 5))[0],
            owner=f"owner{chance.randrange(1_000):03}@vmtrak.example" if n % 16 else None,
            department=chance.choice(DEPARTMENTS),
            application=application,
            expiry_date=today + timedelta(days=chance.randrange(-60, 900)) if n % 3 else None,
            notes="Patched in the second window of the month.",
            created_at=moment,
            updated_at=moment,
            created_by="bench",
            updated_by="bench",
            revision=1,
        )
        vm.derive(Hypervisor(name_key=f"host-{host:03}"))
        yield {
            column.name: getattr(vm, column.name)
            for column in VM.__table__.columns
            if column.name != "id"
        }
