"""Addresses of videos and results in object stores and on web servers (extra `cloud`).

fsspec reads and writes; it takes credentials from the provider's own environment and files. Credentials do
not appear in results, messages or records.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tsm_runtime.errors import BackendError

_REMOTE = re.compile(r"(s3|gs|gcs|az|abfs|abfss|https?|memory)://.+", re.IGNORECASE)

NOTHING_THERE = "nothing is there"
"""The beginning of `reason` for a missing file."""

_ADVICE = {
    r"ExpiredToken|TokenRefresh|RefreshError|SSOTokenLoad|[Tt]oken .*expired": (
        "the credentials have expired: renew them, as with your provider's login command"
    ),
    r"NoCredentials|PartialCredentials|DefaultCredentialsError|Anonymous caller": (
        "no credentials: set the provider's own variables, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
        " its profile"
    ),
    r"InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|AuthFailure|Unauthorized": (
        "the store does not accept these credentials: check the key and the secret"
    ),
    r"AccessDenied|Forbidden|PermissionError": "these credentials may not do this: check the access rights",
    r"NoSuchBucket|bucket does not exist": "no such bucket",
    r"EndpointConnection|ClientConnector|ConnectTimeout|ConnectionError|ServerDisconnected": (
        "the store cannot be reached: check the network, and AWS_ENDPOINT_URL if it is set"
    ),
    r"FileNotFoundError|NoSuchKey": NOTHING_THERE,
}
"""What to do, by a pattern of the names, codes and messages of an error and its causes; the first counts."""


def is_remote(text: str) -> bool:
    """Return whether a name is the address of a file or folder in a store or on a web server."""
    return _REMOTE.fullmatch(text) is not None


def shown(url: str) -> str:
    """Return an address without user, password and query, which may be secrets.

    >>> shown("https://me:secret@host/a/b.mp4?X-Amz-Signature=1")
    'https://host/a/b.mp4'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def as_address(text: str) -> str:
    """Return a text with the paths of local copies replaced by their addresses.

    >>> as_address("/tmp/tsm-scratch-1a_b/s3:/bucket/a.mp4: empty file")
    's3://bucket/a.mp4: empty file'
    """
    return re.sub(r"[^\s:]*tsm-scratch-\w+/(\w+):/", r"\1://", text)


def open_store(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        BackendError: the package for such addresses is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise BackendError(f"{shown(url)} needs fsspec: pip install 'tsm-tal[cloud]'") from error
    try:
        find: Any = fsspec.core.url_to_fs
        store, path = find(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise BackendError(f"{shown(url)}: {reason(error, url)}") from error
    return store, path


def reason(error: BaseException, url: str) -> str:
    """Return what is wrong with an access, and what to do; without the parts that `shown` removes."""
    query, user = urlsplit(url).query, urlsplit(url).netloc.rpartition("@")[0]
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in filter(None, (query, user)):
        text = text.replace(secret, "...")
    text = f"{type(error).__name__}: {text}"[:200]
    evidence = " ".join(_evidence(error))
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, evidence)), "")
    return f"{advice}; {text}" if advice else text


def _evidence(error: BaseException) -> list[str]:
    """Return names, codes and messages of an error and its causes, the code of the store first."""
    found: list[str] = []
    each: BaseException | None = error
    while each is not None:
        response = getattr(each, "response", None)
        code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
        found = [str(code), *found, type(each).__name__, str(each)]
        each = each.__cause__ or each.__context__
    return found
