"""RDP files: their lines, and the signature that Windows' own rdpsign would give them.

decisions/0015 says what is written and why. Names, values and defaults of the properties are
those of learn.microsoft.com, "Supported RDP properties".
"""

import base64
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization.pkcs7 import (
    PKCS7Options,
    PKCS7SignatureBuilder,
)
from cryptography.x509 import Certificate

from vmtrak.errors import Invalid, Unavailable
from vmtrak.hosts import in_brackets

USUAL_PORT = 3389

SMALLEST_KEY_BITS = 2048
"""NIST SP 800-131A: no signature by a smaller RSA key is acceptable."""

_LARGEST_FILE = 64 * 1024

_SIGNABLE = (
    "Full Address",
    "Alternate Full Address",
    "PCB",
    "Use Redirection Server Name",
    "Server Port",
    "Negotiate Security Layer",
    "EnableCredSspSupport",
    "DisableConnectionSharing",
    "AutoReconnection Enabled",
    "GatewayHostname",
    "GatewayUsageMethod",
    "GatewayProfileUsageMethod",
    "GatewayCredentialsSource",
    "Support URL",
    "PromptCredentialOnce",
    "Require pre-authentication",
    "Pre-authentication server address",
    "Alternate Shell",
    "Shell Working Directory",
    "RemoteApplicationProgram",
    "RemoteApplicationExpandWorkingdir",
    "RemoteApplicationMode",
    "RemoteApplicationGuid",
    "RemoteApplicationName",
    "RemoteApplicationIcon",
    "RemoteApplicationFile",
    "RemoteApplicationFileExtensions",
    "RemoteApplicationCmdLine",
    "RemoteApplicationExpandCmdLine",
    "Prompt For Credentials",
    "Authentication Level",
    "AudioMode",
    "RedirectDrives",
    "RedirectPrinters",
    "RedirectCOMPorts",
    "RedirectSmartCards",
    "RedirectPOSDevices",
    "RedirectClipboard",
    "DevicesToRedirect",
    "DrivesToRedirect",
    "LoadBalanceInfo",
    "RedirectDirectX",
    "RDGIsKDCProxy",
    "KDCProxyName",
    "EventLogUploadAddress",
)
"""What a signature covers, in its order and as `signscope` spells it. The user name it does not."""

_SIGNATURE_VERSION = (0x00010001, 1)
"""The first two words before the length of the PKCS#7 structure, as rdpsign writes them."""

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories that end a line for some reader, reorder what is shown, or cannot be encoded."""


class Unfit(Exception):
    """A certificate or key cannot sign RDP files; `of_key` tells which of the two it is.

    `str(error)` holds nothing of the file and not its path.
    """

    def __init__(self, reason: str, *, of_key: bool = False) -> None:
        super().__init__(reason)
        self.of_key = of_key


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate with its RSA key, and the certificates between it and its root."""

    certificate: Certificate
    between: tuple[Certificate, ...]
    key: RSAPrivateKey = field(repr=False)

    @property
    def thumbprint(self) -> str:
        """SHA-1 in capitals without blanks, as the group policy wants it. It protects nothing."""
        return self.certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - a name, no protection

    @property
    def subject(self) -> str:
        return self.certificate.subject.rfc4514_string()

    @property
    def ends(self) -> datetime:
        return self.certificate.not_valid_after_utc

    def fault(self, moment: datetime) -> str | None:
        """Why it may not sign at this time, in words that follow "the certificate"."""
        begins = self.certificate.not_valid_before_utc
        if moment < begins:
            return f"is not valid before {begins:%Y-%m-%d %H:%M} UTC"
        return f"expired on {self.ends:%Y-%m-%d %H:%M} UTC" if moment > self.ends else None

    def sign(self, message: bytes) -> bytes:
        """Detached PKCS#7 in DER: SHA-256, no signed attributes, the certificates included."""
        builder = PKCS7SignatureBuilder().set_data(message)
        builder = builder.add_signer(self.certificate, self.key, hashes.SHA256())
        for certificate in self.between:
            builder = builder.add_certificate(certificate)
        options = [
            PKCS7Options.DetachedSignature,
            PKCS7Options.Binary,
            PKCS7Options.NoAttributes,
        ]
        return builder.sign(serialization.Encoding.DER, options)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the person who runs VMTrak has laid down for RDP files.

    `gateway` is a host name, perhaps with a port. Without a `signer` files are not signed.
    """

    clipboard: bool = False
    gateway: str | None = None
    signer: Signer | None = None


def read_signer(certificate: Path, key: Path) -> Signer:
    """Read both PEM files. Raises `Unfit`."""
    first, *between = _certificates(_content(certificate))
    private = _key(_content(key, of_key=True))
    if not _fits(first, private):
        raise Unfit("does not belong to the certificate", of_key=True)
    return Signer(first, tuple(between), private)


def _fits(certificate: Certificate, key: RSAPrivateKey) -> bool:
    try:
        return certificate.public_key() == key.public_key()
    except (ValueError, UnsupportedAlgorithm):  # a kind of key that the library does not know
        return False


def _content(path: Path, *, of_key: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise Unfit(f"cannot read this file ({error.strerror})", of_key=of_key) from None


def _certificates(content: bytes) -> list[Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise Unfit("this file holds no certificate in PEM") from None


def _key(content: bytes) -> RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError:
        raise Unfit("this key is encrypted; it must have no passphrase", of_key=True) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unfit("this file holds no private key in PEM", of_key=True) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SMALLEST_KEY_BITS:
        reason = f"must be an RSA key of at least {SMALLEST_KEY_BITS} bits; Windows reads no other"
        raise Unfit(reason, of_key=True)
    return key


def file(host: str, port: int, user: str | None, rules: Rules, moment: datetime) -> bytes:
    """The file. Raises `Invalid` for a user name that cannot stand in a line.

    Raises `Unavailable` where it should be signed and cannot be: it is never given unsigned then.

    UTF-16 with its byte order mark is what mstsc itself writes, and the one encoding in which no
    reader takes a name in another script for one in the code page of its machine.
    """
    lines = [*_lines(host, port, rules), f"username:s:{_written(user)}"]
    if rules.signer is not None:
        lines += _signature(lines, rules.signer, moment)
    return "".join(f"{line}\r\n" for line in ("\ufeff" + lines[0], *lines[1:])).encode("utf-16-le")


def _lines(host: str, port: int, rules: Rules) -> list[str]:
    """Every property that could be risky is here: what a file leaves out, the client decides."""
    address = _full_address(host, port)
    gateway = rules.gateway is not None
    return [
        f"full address:s:{address}",
        f"alternate full address:s:{address}",
        f"server port:i:{port}",
        "negotiate security layer:i:1",
        "enablecredsspsupport:i:1",
        "enablerdsaadauth:i:0",
        "authentication level:i:2",
        "prompt for credentials:i:1",
        f"gatewayhostname:s:{rules.gateway or ''}",
        f"gatewayusagemethod:i:{2 if gateway else 0}",
        "gatewayprofileusagemethod:i:1",
        "alternate shell:s:",
        "remoteapplicationmode:i:0",
        f"redirectclipboard:i:{int(rules.clipboard)}",
        "redirectdrives:i:0",
        "redirectprinters:i:0",
        "redirectcomports:i:0",
        "redirectsmartcards:i:0",
        "redirectwebauthn:i:0",
        "redirectposdevices:i:0",
        "redirectlocation:i:0",
        "audiocapturemode:i:0",
        "drivestoredirect:s:",
        "devicestoredirect:s:",
        "usbdevicestoredirect:s:",
        "camerastoredirect:s:",
    ]


def _full_address(host: str, port: int) -> str:
    """The port also behind every IPv6 address: FreeRDP takes what follows the last colon for it."""
    if port == USUAL_PORT and ":" not in host:
        return host
    return f"{in_brackets(host)}:{port}"


def _written(user: str | None) -> str:
    if any(unicodedata.category(character) in _UNSAFE for character in user or ""):
        raise Invalid({"user": ["must not contain control characters"]})
    return user or ""


def _signature(lines: Sequence[str], signer: Signer, moment: datetime) -> list[str]:
    """The two lines that sign these. The layout is not published; it was read off rdpsign.exe."""
    if fault := signer.fault(moment):
        raise Unavailable(f"The RDP file cannot be signed: the certificate {fault}.")
    found = {line.partition(":")[0]: line for line in lines}
    names = [name for name in _SIGNABLE if name.lower() in found]
    scope = f"signscope:s:{','.join(names)}"
    message = "".join(f"{line}\r\n" for line in (*(found[name.lower()] for name in names), scope))
    try:
        der = signer.sign(f"{message}\0".encode("utf-16-le"))
    except (ValueError, InternalError, UnsupportedAlgorithm) as error:
        raise Unavailable("The RDP file cannot be signed with the key that is set.") from error
    header = struct.pack("<III", *_SIGNATURE_VERSION, len(der))
    return [scope, f"signature:s:{base64.b64encode(header + der).decode('ascii')}"]
