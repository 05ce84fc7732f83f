"""Certificates for the brokers of tests, which are their own authority."""

import subprocess
from pathlib import Path


def certify(folder: Path) -> None:
    """Make a broker's certificate and key, and the file with both that Kafka reads."""
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=broker",
            ),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                folder / "key.pem",
                "-out",
                folder / "ca.pem",
            ),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "store.pem").write_text((folder / "key.pem").read_text() + (folder / "ca.pem").read_text())
