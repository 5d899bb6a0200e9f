"""The panel: SQLAdmin's mounting and menu, VMTrak's own pages."""

from vmtrak.admin import base
from vmtrak.admin.account import AccountPages
from vmtrak.admin.alerts import AlertView
from vmtrak.admin.calendars import CalendarPages
from vmtrak.admin.connections import ConnectionPages
from vmtrak.admin.credentials import CredentialView
from vmtrak.admin.events import AuditView
from vmtrak.admin.home import home
from vmtrak.admin.hypervisors import HypervisorView
from vmtrak.admin.microsoft import MicrosoftPages
from vmtrak.admin.notices import NoticeView
from vmtrak.admin.reports import ReportPages
from vmtrak.admin.second_factor import SecondFactorPages
from vmtrak.admin.sign_in import SignInPages
from vmtrak.admin.tokens import TokenView
from vmtrak.admin.users import UserView
from vmtrak.admin.vms import TrashView, VMView
from vmtrak.web.state import State

VIEWS: list[type[base.View]] = [
    VMView,
    HypervisorView,
    CredentialView,
    TrashView,
    TokenView,
    UserView,
    NoticeView,
    AlertView,
    AuditView,
]


class Panel(base.Panel):
    """The panel with all its views."""

    def __init__(self, state: State) -> None:
        super().__init__(state, VIEWS, home)
        self.admin.router.routes[:0] = SignInPages(self).routes()
        self.admin.router.routes[:0] = AccountPages(self).routes()
        self.admin.router.routes[:0] = CalendarPages(self).routes()
        self.admin.router.routes[:0] = MicrosoftPages(self).routes()
        self.admin.router.routes[:0] = SecondFactorPages(self).routes()
        self.admin.router.routes[:0] = ConnectionPages(self).routes()
        self.admin.router.routes[:0] = ReportPages(self).routes()
