"""The shapes of answers, for the OpenAPI document."""

from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from vmtrak.access import Role, Scope
from vmtrak.channels import Channel, Group
from vmtrak.credentials import AccountType
from vmtrak.inventory import Environment, HypervisorType, OsType, PowerState, Status
from vmtrak.notices import Kind, State, Trigger

T = TypeVar("T")


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Ok(_Answer):
    ok: Literal[True]


class Success(_Answer):
    success: Literal[True]


class Health(_Answer):
    status: Literal["ok"]
    version: str
    uptime: int


class VMAnswer(_Answer):
    """A VM. `primary_username` stands only in lists, for those who may see credentials."""

    id: int
    vm_name: str
    vm_tag: str | None
    description: str | None
    hypervisor_id: int | None
    hypervisor_name: str | None
    cluster: str | None
    datacenter: str | None
    os_type: OsType | None
    os_version: str | None
    hostname: str | None
    ip_address: str | None
    vlan: str | None
    mac_address: str | None
    vcpu: int | None
    ram_gb: float | None
    disk_gb: float | None
    power_state: PowerState
    environment: Environment | None
    status: Status
    owner: str | None
    department: str | None
    application: str | None
    expiry_date: date | None
    notes: str | None
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str
    primary_username: str | None = None


class TrashedVM(VMAnswer):
    deleted_at: datetime
    deleted_by: str


class HypervisorAnswer(_Answer):
    """A hypervisor. Who sees only some VMs gets null for all but number, name and count."""

    id: int
    name: str
    hostname: str | None
    type: HypervisorType | None
    version: str | None
    description: str | None
    status: Status | None
    environment: Environment | None
    vcpu: int | None
    ram_gb: float | None
    disk_gb: float | None
    created_at: datetime | None
    updated_at: datetime | None
    vm_count: int


class Named(_Answer):
    id: int
    name: str


class AuditAnswer(_Answer):
    id: int
    user_id: int | None
    username: str
    action: str
    entity_type: str
    entity_id: int | None
    entity_name: str | None
    detail: dict[str, Any] | None
    ip_address: str | None
    request_id: str | None
    created_at: datetime


class UserAnswer(_Answer):
    id: int
    username: str
    email: str
    role: Role
    department: str | None
    is_active: bool
    must_change_password: bool
    notify_expiry: bool
    sign_in_method: Literal["local", "microsoft"]
    awaits_subject: str | None
    awaits_email: bool
    is_guest: bool
    second_factor_required: bool
    has_second_factor: bool
    last_seen_at: datetime | None
    created_at: datetime
    updated_at: datetime


class CredentialAnswer(_Answer):
    """A credential; `password` is a mask, or null if its key was lost for good.

    `rotation_due` is marked, or too old by the setting.
    """

    id: int
    vm_id: int
    vm_name: str
    username: str
    password: str | None
    account_type: AccountType
    notes: str | None
    password_changed_at: datetime
    password_changed_by: str
    rotation_due: bool
    rotation_marked: bool
    created_at: datetime
    updated_at: datetime
    created_by: str
    updated_by: str


class VersionAnswer(_Answer):
    """A password that is kept; `password` is a mask. One of them is the present one."""

    version: int
    set_at: datetime
    set_by: str
    present: bool
    password: str


class RevealAnswer(_Answer):
    password: str


class ViewerAnswer(_Answer):
    """Somebody who knows a present password: who set it, or was shown it so many `times`."""

    user_id: int
    username: str
    is_active: bool
    how: Literal["revealed", "set"]
    first_at: datetime
    last_at: datetime
    times: int


class SeenAnswer(_Answer):
    """A credential whose present password somebody knows. `trashed`: its VM is in the trash."""

    credential_id: int
    vm_id: int
    vm_name: str
    trashed: bool
    username: str
    account_type: AccountType
    how: Literal["revealed", "set"]
    first_at: datetime
    last_at: datetime
    times: int
    password_changed_at: datetime
    rotation_due: bool
    rotation_marked: bool


class Marked(_Answer):
    ok: Literal[True]
    marked: int


class AlertAnswer(_Answer):
    """An alert to the administrators; `address` is a page of the panel."""

    id: int
    kind: str
    text: str
    address: str | None
    created_at: datetime
    read_at: datetime | None
    read_by: str | None


class MessageAnswer(_Answer):
    """A message about VMs that expire, or a test. `recipient` is a user's name, else an address.

    Over other channels than mail it is the channel's name. `answer` is what the other side said.
    """

    id: int
    kind: Kind
    channel: Channel
    recipient: str
    user_id: int | None
    day: date
    state: State
    subject: str | None
    vms: int
    attempts: int
    next_attempt_at: datetime | None
    created_at: datetime
    ended_at: datetime | None
    sent_to: str | None
    answer: str | None
    run_id: int | None


class ToldVM(_Answer):
    vm_id: int
    vm_name: str
    in_trash: bool
    expiry_date: date
    notice_type: str


class MessageWithVMs(MessageAnswer):
    vms_told: list[ToldVM]


class VMNotice(_Answer):
    """Somebody was, or is to be, told of a VM; `at` is when the message ended or was made."""

    message_id: int
    notice_type: str
    expiry_date: date
    recipient: str
    channel: Channel
    state: State
    at: datetime
    answer: str | None


class DueRecipient(_Answer):
    """Somebody who would be told of so many VMs; `first` are the names of the first few."""

    recipient: str
    channel: Channel
    user_id: int | None
    address: str | None
    vms: int
    groups: dict[Group, int]
    first: list[str]


class DueAnswer(_Answer):
    day: date
    data: list[DueRecipient]


class RunAnswer(_Answer):
    day: date
    trigger: Trigger
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    vms: int
    messages: int


class StandingAnswer(_Answer):
    """How notices stand. `late`: today's run should have been done a while ago."""

    mail: bool
    channels: list[Channel]
    last_run: RunAnswer | None
    next_run_at: datetime
    late: bool
    waiting: int
    failed: int
    kept: int


class RunNow(_Answer):
    """What became of the messages of a run; not `ok` if some failed."""

    ok: bool
    message: str
    sent: int
    failed: int


class Again(_Answer):
    ok: Literal[True]
    again: int


class TokenAnswer(_Answer):
    """An API token. `hint` is its last four characters; no networks: it works from anywhere."""

    id: int
    user_id: int
    username: str
    name: str
    hint: str
    scopes: list[Scope]
    allowed_networks: list[str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    last_used_ip_address: str | None


class NewTokenAnswer(TokenAnswer):
    token: str


class CalendarAnswer(_Answer):
    """A calendar address; with `owned_only` it shows only VMs that the person owns."""

    owned_only: bool
    created_at: datetime
    last_used_at: datetime | None


class NewCalendarAnswer(_Answer):
    address: str
    owned_only: bool
    created_at: datetime


class SignedInUser(_Answer):
    id: int
    username: str
    email: str
    role: Role
    must_change_password: bool


class LoginAnswer(_Answer):
    accessToken: str  # noqa: N815 - the name that existing clients read
    user: SignedInUser


class RefreshAnswer(_Answer):
    accessToken: str  # noqa: N815 - as above


class ProvedAnswer(_Answer):
    """The session goes on under a new access token; the one before works no more."""

    ok: Literal[True]
    proved_at: datetime
    accessToken: str  # noqa: N815 - as above


class SecondFactorAnswer(_Answer):
    """Who signs in over a provider has the provider's second factor: none is `available` here."""

    available: bool
    enrolled: bool
    required: bool
    enrolled_at: datetime | None
    recovery_codes: int


class EnrolmentAnswer(_Answer):
    """The secret for an authenticator app, and the same as the address that a QR code carries."""

    secret: str
    uri: str


class RecoveryCodesAnswer(_Answer):
    recovery_codes: list[str]


class SessionAnswer(_Answer):
    """A session that works. `device` is made of what the client said of itself."""

    id: int
    kind: Literal["panel", "api"]
    method: Literal["password", "link", "microsoft"]
    device: str
    ip_address: str | None
    last_ip_address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool


class Expiring(_Answer):
    id: int
    vm_name: str
    ip_address: str | None
    environment: Environment | None
    owner: str | None
    expiry_date: date
    days_until_expiry: int


class Statistics(_Answer):
    total: int
    by_status: dict[str, int]
    by_environment: dict[str, int]
    by_power_state: dict[str, int]
    expiring_soon: list[Expiring]
    expired_count: int


class ListAnswer(_Answer, Generic[T]):
    """One page; `next` is the cursor to go on with, null at the end."""

    data: list[T]
    total: int
    page: int
    limit: int
    next: str | None


class Problem(BaseModel):
    """RFC 9457, with `error` (the detail) and `details` (by field) for earlier clients."""

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    error: str
    request_id: str
    details: dict[str, list[str]] | None = None
