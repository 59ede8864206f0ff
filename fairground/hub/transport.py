"""HTTP to a hub: the endpoint, who may see the token, redirects, retries, and refusals put into sentences."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from fairground import __version__
from fairground.errors import DownloadError
from fairground.hub.catalogue import Repository, Target

DEFAULT_ENDPOINT = "https://huggingface.co"
ATTEMPTS = 5
LONGEST_WAIT_S = 120.0  # A server that asks for more is not waited for.
_MAX_REDIRECTS = 5
_MAX_LISTING_BYTES = 64 << 20
_RETRIED = {429, 500, 502, 503, 504}

Notice = Callable[[str], None]


class HubError(DownloadError):
    """The hub could not be reached or did not give the model; another source may still have it.

    `reason` is the first part of the sentence, for who goes on to another source.
    """

    def __init__(self, name: str, reason: str, advice: str) -> None:
        super().__init__(f"{reason}, so {name} was not pulled; {advice}.")
        self.reason = reason


class TransientError(Exception):
    """A request that is worth repeating; never leaves this room."""

    def __init__(self, reason: str, *, retry_after: float | None = None, connecting: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.connecting = retry_after, connecting


def offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the hub, in the spellings that huggingface_hub takes."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


class HubClient:
    """One connection to a hub for the length of a pull.

    The token goes to the endpoint's own origin (scheme, host and port) and nowhere else; storage hosts that the hub
    redirects to carry their permission in the address. Raises DownloadError for an unusable HF_ENDPOINT or HF_TOKEN,
    and HubError where HF_HUB_OFFLINE is set.
    """

    def __init__(self, target: Target, repository: Repository, notice: Notice, *, impatient: bool) -> None:
        """`impatient`: another source waits, so until the hub answers once there is one attempt, and a short one."""
        self.name, self._gated, self._notice = target.name, target.gated, notice
        self._repo = repository.page
        self._attempts = 1 if impatient else ATTEMPTS
        if offline():
            raise HubError(self.name, "HF_HUB_OFFLINE is set, which forbids the hub", "unset it and pull again")
        try:
            self._endpoint = httpx2.URL((os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/"))
        except httpx2.InvalidURL:
            self._endpoint = httpx2.URL("")
        if self._endpoint.scheme not in {"http", "https"} or not self._endpoint.host:
            raise DownloadError(
                "HF_ENDPOINT is not an address such as https://hub.example.org, so no hub can be asked; correct it."
            )
        self._token = (os.environ.get("HF_TOKEN") or "").strip()
        # Checked here, because the HTTP library would quote an impossible header, and so the token, in its error.
        if not all("!" <= character <= "~" for character in self._token):
            raise DownloadError("HF_TOKEN holds characters that no token has, so it was not sent; set it again.")
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(10.0, connect=3.0) if impatient else httpx2.Timeout(30.0, connect=10.0),
            headers={"User-Agent": f"fairground/{__version__}", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def host(self) -> str:
        """The endpoint's host and port, without any credentials, for messages."""
        return self._endpoint.netloc.decode("ascii")

    def get_json(self, path: str) -> Any:
        """What the endpoint answers at `path`. Raises HubError."""

        def fetch() -> Any:
            with self.stream(path, {}) as response:
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > _MAX_LISTING_BYTES:
                        break
            try:
                return json.loads(bytes(body))
            except ValueError:
                raise HubError(
                    self.name,
                    f"{self.host} did not answer as a hub does",
                    "check HF_ENDPOINT, or whether a login page stands in the way, and pull again",
                ) from None

        return self.retrying(fetch, lambda: False)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """The open response to a GET, redirects followed; its status is 200, 206 or 416.

        Raises TransientError for what may pass and HubError for what will not.
        """
        url = self._endpoint.copy_with(raw_path=self._endpoint.raw_path.rstrip(b"/") + path.encode("ascii"))
        for _ in range(_MAX_REDIRECTS):
            own = url.origin == self._endpoint.origin
            sent = {**headers, "Authorization": f"Bearer {self._token}"} if own and self._token else headers
            # `auth`: neither a password in the address nor a .netrc may put another Authorization in place of ours.
            with _transport_errors(url), self._client.stream("GET", url, headers=sent, auth=_as_it_is) as response:
                self._attempts = ATTEMPTS  # The network is there: from here on a failure is a passing one.
                if not response.has_redirect_location:
                    self._refuse(response, own)
                    yield response
                    return
                try:
                    url = url.join(response.headers["location"])
                except httpx2.InvalidURL:
                    break
        raise HubError(self.name, f"The hub {self.host} redirects without an end", "try again later")

    def retrying(self, attempt: Callable[[], Any], progressed: Callable[[], bool]) -> Any:
        """Calls `attempt` until it returns, waiting between failures that may pass.

        `progressed` says whether bytes arrived since it was last asked; then the count of failures starts again, so
        that a long download outlives many cuts. Raises HubError when patience ends.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures = 1 if progressed() else failures + 1
                if failures >= self._attempts:
                    verb = "could not be reached" if error.connecting else "kept failing"
                    raise HubError(
                        self.name,
                        f"The hub {self.host} {verb} ({error})",
                        "check the network, or set HF_ENDPOINT to a mirror, and pull again (it continues where it "
                        "stopped)",
                    ) from None
                asked = error.retry_after
                wait = 0.5 * 2.0 ** (failures - 1) if asked is None else asked
                if wait > LONGEST_WAIT_S:
                    raise HubError(
                        self.name,
                        f"The hub {self.host} asks to wait {wait:.0f} s ({error})",
                        "pull again after that (it continues where it stopped)",
                    ) from None
                self._notice(f"The hub {self.host}: {error}; trying again in {wait:.1f} s.")
                time.sleep(wait)

    def _refuse(self, response: httpx2.Response, own: bool) -> None:
        status, code = response.status_code, response.headers.get("x-error-code", "")
        if status in {200, 206, 416}:
            return
        if status in _RETRIED:
            wait = _retry_after(response.headers.get("retry-after"))
            raise TransientError(f"{response.url.host} answered {status}", retry_after=wait)
        if not own:
            # A storage address works for a limited time; asking the hub again gives a fresh one.
            raise TransientError(f"{response.url.host}, where the hub keeps its files, answered {status}")
        page = f"{self._endpoint.scheme}://{self.host}{self._endpoint.path.rstrip('/')}/{self._repo}"
        missing = {"RepoNotFound": "repository", "RevisionNotFound": "revision", "EntryNotFound": "file"}
        if status == 404 or code in missing:
            reason = f"The hub {self.host} has no such {missing.get(code, 'repository or revision')} (error {status})"
            advice = "check the name and the revision, and set HF_TOKEN if it is private"
        elif status in {401, 403} and (code == "GatedRepo" or self._gated):
            reason = f"{self.name} is gated and the hub {self.host} refused it (error {status})"
            advice = f"accept its licence at {page}, set HF_TOKEN to a token of that account, and pull again"
        elif status in {401, 403}:
            problem = "did not accept HF_TOKEN" if self._token else "asks for a token"
            reason = f"The hub {self.host} {problem} (error {status})"
            advice = f"if it is gated, accept its licence at {page}, then set HF_TOKEN to a token that may read it"
        else:
            reason, advice = f"The hub {self.host} answered {status}", "check HF_ENDPOINT and pull again"
        raise HubError(self.name, reason, advice)


def _as_it_is(request: httpx2.Request) -> httpx2.Request:
    return request


@contextmanager
def _transport_errors(url: httpx2.URL) -> Iterator[None]:
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise TransientError(f"{url.host}: {error or 'no connection'}", connecting=True) from None
    except httpx2.TransportError as error:
        raise TransientError(f"the connection to {url.host} broke ({type(error).__name__})") from None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of them or an HTTP date; None where the header is missing or makes no sense."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
