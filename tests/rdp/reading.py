"""An RDP file as its readers see it, written from the published facts and not from the program.

Properties: learn.microsoft.com, "Supported RDP properties". Signature: the layout that rdpsign.exe
writes, as github.com/nfedera/rdpsign describes it.
"""

import base64
import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(r"([a-z -]+):([is]):([^\r\n]*)")

SCOPES = {
    "full address": "Full Address",
    "alternate full address": "Alternate Full Address",
    "server port": "Server Port",
    "negotiate security layer": "Negotiate Security Layer",
    "enablecredsspsupport": "EnableCredSspSupport",
    "gatewayhostname": "GatewayHostname",
    "gatewayusagemethod": "GatewayUsageMethod",
    "gatewayprofileusagemethod": "GatewayProfileUsageMethod",
    "alternate shell": "Alternate Shell",
    "remoteapplicationmode": "RemoteApplicationMode",
    "prompt for credentials": "Prompt For Credentials",
    "authentication level": "Authentication Level",
    "redirectdrives": "RedirectDrives",
    "redirectprinters": "RedirectPrinters",
    "redirectcomports": "RedirectCOMPorts",
    "redirectsmartcards": "RedirectSmartCards",
    "redirectposdevices": "RedirectPOSDevices",
    "redirectclipboard": "RedirectClipboard",
    "devicestoredirect": "DevicesToRedirect",
    "drivestoredirect": "DrivesToRedirect",
}
"""What a signature covers of the lines that VMTrak writes, in the order that it is signed in."""

NEVER_SHARED = {
    "redirectdrives": "0",
    "redirectprinters": "0",
    "redirectcomports": "0",
    "redirectsmartcards": "0",
    "redirectwebauthn": "0",
    "redirectposdevices": "0",
    "redirectlocation": "0",
    "audiocapturemode": "0",
    "drivestoredirect": "",
    "devicestoredirect": "",
    "usbdevicestoredirect": "",
    "camerastoredirect": "",
}


@dataclass(frozen=True)
class Read:
    """The lines of a file by name, whole, in their order."""

    lines: dict[str, str]

    def value(self, name: str) -> str:
        return self.lines[name].split(":", 2)[2]

    @property
    def values(self) -> dict[str, str]:
        return {name: self.value(name) for name in self.lines}


def read(content: bytes) -> Read:
    """The file as mstsc and FreeRDP take it apart; whatever is no line of theirs fails."""
    assert content[:2] == b"\xff\xfe", "no byte order mark of UTF-16LE"
    text = content[2:].decode("utf-16-le", "strict")
    assert text.endswith("\r\n")
    assert len(text.splitlines()) == text.count("\r\n") == text.count("\r") == text.count("\n")
    lines = {}
    for line in text.removesuffix("\r\n").split("\r\n"):
        found = LINE.fullmatch(line)
        assert found, line
        assert found[1] not in lines, f"{found[1]} is there twice"
        lines[found[1]] = line
    return Read(lines)


def signed_message(file: Read) -> bytes:
    """What must have been signed, put together anew from the lines of a file."""
    names = {title: name for name, title in SCOPES.items()}
    signed = [file.lines[names[title]] for title in file.value("signscope").split(",")]
    text = "\r\n".join([*signed, file.lines["signscope"]]) + "\r\n\0"
    return text.encode("utf-16-le")


def signature(file: Read) -> bytes:
    """The PKCS#7 structure behind its header of three words."""
    blob = base64.b64decode(file.value("signature"), validate=True)
    assert struct.unpack("<III", blob[:12]) == (0x00010001, 1, len(blob) - 12)
    return blob[12:]


def verified(message: bytes, der: bytes, trusted: Path, folder: Path) -> bool:
    """Whether OpenSSL takes it for a signature of the message that leads to the trusted root."""
    (folder / "signature.der").write_bytes(der)
    (folder / "message.bin").write_bytes(message)
    files = ["-in", "signature.der", "-content", "message.bin", "-out", "out"]
    trust = ["-CAfile", str(trusted), "-purpose", "any"]
    done = subprocess.run(
        ["openssl", "cms", "-verify", "-inform", "DER", "-binary", *files, *trust],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Verification successful" in done.stderr or "failure" in done.stderr, done.stderr
    return done.returncode == 0
