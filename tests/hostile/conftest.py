from __future__ import annotations

from cli.conftest import _server as _server  # the fixture bhk runs commands in it
from cli.conftest import bhk as bhk
