"""The certificate that the operations page tells how to make."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.rdp.reading import read, signature, signed_message, verified
from vmtrak import rdp

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_documented_certificate_signs(tmp_path: Path) -> None:
    found = re.search(
        r"^```sh\n(openssl req -x509 .*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert found
    subprocess.run(["sh", "-euc", found[1]], cwd=tmp_path, check=True, capture_output=True)
    certificate, key = tmp_path / "rdp.pem", tmp_path / "rdp.key"
    assert key.stat().st_mode & 0o077 == 0
    signer = rdp.read_signer(certificate, key)
    file = read(rdp.file("192.0.2.1", 3389, None, rdp.Rules(signer=signer), datetime.now(UTC)))
    assert verified(signed_message(file), signature(file), certificate, tmp_path)
    shown = subprocess.run(
        ["openssl", "x509", "-in", "rdp.pem", "-noout", "-text"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CA:FALSE" in shown
    assert "CA:TRUE" not in shown
    assert "Code Signing" in shown
