"""URLs of channels at rest: encrypted and authenticated (Fernet), by a key made of the installation's secret (HORO_SECRET). Whoever reads the
database alone reads no URL; whoever changes the secret has to add the channels again.
"""

from __future__ import annotations

import base64
import hmac

from cryptography.fernet import Fernet, InvalidToken

from shared.channels import ChannelError


class Vault:
    """Seals and opens URLs. `secret` is the effective one (`shared.parts`)."""

    def __init__(self, secret: str) -> None:
        key = hmac.digest(secret.encode(), b"horo: the URLs of channels, version 1", "sha256")
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, url: str) -> bytes:
        """The URL, encrypted."""
        return self._fernet.encrypt(url.encode())

    def open(self, sealed: bytes) -> str:
        """The URL again. Raises `ChannelError` where another secret has sealed it, or somebody has changed it."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except (InvalidToken, UnicodeDecodeError):
            raise ChannelError("the channel was kept under another HORO_SECRET: remove it and add it again") from None
