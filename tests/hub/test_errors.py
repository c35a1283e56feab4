from __future__ import annotations

import errno
import logging
import traceback

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bhk.base.errors import BhkError
from bhk.base.texts import redact
from bhk.hub.address import Address
from bhk.hub.errors import HubError, HubFileNotFoundError, HubUnreachableError
from bhk.hub.explained import explained
from hub.fake_hub import FakeHub

_TOKEN = "hf_" + "Ab1" * 11
_ADDRESS = Address("u/r", "model.bhk", "v9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Authorization: Bearer abc.def ({_TOKEN})", "Authorization: Bearer hf_*** (hf_***)"),
        ("hf_oauth_eyJhbGciOi.JIUzI1-NiJ9", "hf_***"),
        ("GET https://cdn.co/a/b?Expires=1&Signature=c failed", "GET https://cdn.co/a/b?*** failed"),
        ("'http://h/x?y=1'", "'http://h/x?***'"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("https://huggingface.co/u/r", "https://huggingface.co/u/r"),
    ],
)
def test_tokens_and_signatures_are_redacted(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (401, {}, r"does not accept the token for hf://u/r \(401\).*expired; run `hf auth login`"),
        (403, {"X-Error-Code": "GatedRepo"}, "is gated; accept its terms at http://[0-9.:]+/u/r,"),
        (403, {"X-Error-Message": "No write right"}, r"does not permit this with hf://u/r \(403: No write right\)"),
        (404, {"X-Error-Code": "RepoNotFound"}, "does not exist or is private.*hf auth login"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "has no revision 'v9'"),
        (409, {}, r"changed in the meantime \(409.*run the command again"),
        (412, {"X-Error-Message": "A commit has happened since"}, r"\(412: A commit has happened since\)"),
        (429, {"Retry-After": "77"}, r"too many requests to the Hub \(429\) for hf://u/r; try again in 77 s"),
        (
            400,
            {"X-Error-Message": f"Bearer {_TOKEN} and {_TOKEN} are no good"},
            r"\(400: Bearer hf_\*\*\* and hf_\*\*\* are",
        ),
    ],
)
def test_a_refusal_of_the_hub_is_one_line(hub: FakeHub, status: int, headers: dict[str, str], message: str) -> None:
    hub.inject("info", status=status, headers=headers)
    with pytest.raises(HubError, match=message) as caught, explained(_ADDRESS):
        HfApi().model_info("u/r")
    assert "\n" not in str(caught.value)
    assert _TOKEN not in "".join(traceback.format_exception(caught.value))


def test_a_missing_file(hub: FakeHub) -> None:
    hub.add("u/r", {"a.txt": b""})
    with pytest.raises(HubFileNotFoundError, match=r"hf://u/r has no file 'model\.bhk'"), explained(_ADDRESS):
        hf_hub_download("u/r", "model.bhk")


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_is_down(hub: FakeHub, status: int) -> None:
    hub.inject("info", status=status)
    with pytest.raises(HubUnreachableError, match=rf"trouble with hf://u/r \({status}"), explained(_ADDRESS):
        HfApi().model_info("u/r")


def test_a_connection_that_is_cut(hub: FakeHub) -> None:
    hub.add("u/r", {"a.txt": b""})
    hub.inject("info", cut_after=5)
    with pytest.raises(HubUnreachableError, match="the Hub for hf://u/r; check the network"), explained(_ADDRESS):
        HfApi().model_info("u/r")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/disk/blob"), r"no space is left \(/disk/blob\).*HF_HOME"),
        (PermissionError(errno.EACCES, "Permission denied", "/disk"), r"in the cache: Permission denied \(/disk\)"),
        (ValueError(f"see http://h/x?sign={_TOKEN}\nthere"), r"\(see http://h/x\?\*\*\* there\)"),
    ],
)
def test_errors_of_this_machine(error: Exception, message: str) -> None:
    with pytest.raises(HubError, match=message), explained(_ADDRESS):
        raise error


def test_nothing_of_the_original_error_is_kept() -> None:
    with pytest.raises(HubError) as caught, explained(_ADDRESS):
        raise RuntimeError(_TOKEN) from ValueError(_TOKEN)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_errors_of_bhk_pass_through() -> None:
    with pytest.raises(BhkError, match="as it is"), explained(_ADDRESS):
        raise BhkError("as it is")


def test_warnings_show_no_signatures(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.add("u/r", {"model.bhk": bytes(50_000)})
    hub.inject("blob", cut_after=20_000)
    with caplog.at_level(logging.WARNING), explained(_ADDRESS):
        hf_hub_download("u/r", "model.bhk")
    assert "/blob/" in caplog.text
    assert "Signature" not in caplog.text
