"""Settings of the whole test run."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from hub.fake_hub import FakeHub

# Tests run in several processes already; threads of torch in each of them would wait for each other.
torch.set_num_threads(1)

# Helpers such as `sam.models` are for the tests of other rooms, too.
sys.path.append(str(Path(__file__).parent))


def pytest_collection_finish() -> None:
    """Leave what was imported and collected, 700,000 objects, out of each later search for garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A Hub of its own for the test: huggingface_hub in this process speaks with it, knows its token, and never waits.

    Command lines find it by `hub.environment`.
    """
    import huggingface_hub.constants as constants
    from hub.fake_hub import FakeHub
    from huggingface_hub import hf_api, set_client_factory
    from huggingface_hub.utils import _http

    httpx = getattr(_http, "httpx2", None) or _http.httpx  # by the version of huggingface_hub

    def stay_here(request: Any) -> None:
        """Send a request to the fake Hub that older versions would send to a fixed address: validation of a card."""
        if request.url.host == "huggingface.co":
            request.url = httpx.URL(fake.url + request.url.raw_path.decode())

    def client() -> Any:
        """Return the library's own client, but one that reads no certificates, which takes 65 ms for each test."""
        hooks = {"request": [_http.hf_request_event_hook, stay_here]}
        return httpx.Client(event_hooks=hooks, follow_redirects=True, timeout=None, verify=False)

    home = tmp_path_factory.mktemp("hf")
    fake = FakeHub(home)
    for name, value in {
        "ENDPOINT": fake.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": fake.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    # Not in older versions.
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(home / ".agent_harnesses.json"), raising=False)
    monkeypatch.setattr(hf_api.api, "endpoint", fake.url)
    monkeypatch.setattr(_http.time, "sleep", fake.waits.append)
    for name, value in fake.environment.items():
        monkeypatch.setenv(name, value)
    set_client_factory(client)
    try:
        yield fake
    finally:
        set_client_factory(_http.default_client_factory)
        fake.close()


@pytest.fixture
def compiler() -> Iterator[None]:
    """Forgets compiled functions, before and after a test, and how often there were some."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch.compiler.reset()
