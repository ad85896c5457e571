"""What a PEM file says of how long it will do. Reads files; decides nothing."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509


def expiry(path: Path) -> float:
    """When the first certificate of the file that expires does so, seconds since the epoch. Raises OSError; ValueError where it holds none."""
    return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(path.read_bytes()))
