"""What `openai:MODEL@https://host/v1` means, and where the key for it is found."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from fairground.errors import RemoteError, RequestError, UnknownModel

FORM = "openai:MODEL@https://host/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """A model on a server. `base` has no slash at its end; `host` is as messages name it, with its port.

    `key_variable` is the environment variable for this host alone: FAIRGROUND_API_KEY_ and the host's name in capitals,
    every other character than A-Z and 0-9 an underscore (FAIRGROUND_API_KEY_API_EXAMPLE_ORG for api.example.org).
    """

    reference: str
    model: str
    base: str
    host: str
    loopback: bool
    key_variable: str


def parse(reference: str) -> Address:
    """Reads a reference. Raises UnknownModel for one that is malformed, and RequestError for plain http to a far host.

    No message quotes the address, since a key may have been put into it.
    """
    # A model's own name may hold an @ ("@cf/meta/llama"), so the address begins at the first one before a scheme.
    found = re.fullmatch(r"openai:(\S+?)@(https?://\S+)", reference.strip(), re.IGNORECASE)
    if found is None:
        raise UnknownModel(f"A remote model is named {FORM}, which this name is not; correct it and try again.")
    model, base = found[1], found[2].rstrip("/")
    malformed = UnknownModel(
        f"The address of {model} is not one of a server, such as https://host/v1; correct it and try again."
    )
    try:
        parts = urlsplit(base)
        hostname, port = parts.hostname, parts.port
    except ValueError:
        raise malformed from None
    if "@" in base or "?" in base or "#" in base:
        raise UnknownModel(
            f"The address of {model} holds more than scheme, host and path, where a key would be shown to whoever sees "
            "the name; write the plain address and put the key into OPENAI_API_KEY."
        )
    if not hostname or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", hostname) or not base.isprintable():
        raise malformed
    host = f"[{hostname}]" if ":" in hostname else hostname
    loopback = _is_loopback(hostname)
    if parts.scheme.lower() == "http" and not loopback and os.environ.get("FAIRGROUND_ALLOW_HTTP") != "1":
        raise RequestError(
            f"{host} would be asked over plain http, where anyone on the way can read prompts and the key; use https, "
            "or set FAIRGROUND_ALLOW_HTTP=1 if you trust the network."
        )
    variable = "FAIRGROUND_API_KEY_" + re.sub("[^A-Z0-9]", "_", hostname.upper())
    return Address(reference.strip(), model, base, f"{host}:{port}" if port else host, loopback, variable)


def find_key(address: Address) -> tuple[str, str]:
    """The environment variable that holds the key, and the key, empty where there is none.

    The host's own variable goes first; set but empty, it keeps OPENAI_API_KEY from being sent to this host. Raises
    RemoteError for a key that cannot be one.
    """
    variable = address.key_variable if address.key_variable in os.environ else "OPENAI_API_KEY"
    key = os.environ.get(variable, "").strip()
    # Checked here, because the HTTP library would quote an impossible header, and so the key, in its error.
    if not all("!" <= character <= "~" for character in key):
        raise RemoteError(f"{variable} holds characters that no key has, so it was not sent; set it again.")
    return variable, key


def _is_loopback(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
