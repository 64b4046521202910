"""A configuration as text again."""

from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.written import all_values, document
from tests.config.test_load import EVERYTHING, loaded

ODD = "dns: {upstreams: ['192.0.2.53#5353', '2001:db8::1']}\npolicies: '/a b: c/d #1'\ncell: 'no'\n"


@pytest.mark.parametrize("text", ["", EVERYTHING, "dns: {upstreams: none}\nhost_services: []\n", ODD])
def test_what_is_shown_of_it_can_be_read_again(tmp_path: Path, text: str) -> None:
    config = loaded(tmp_path, text)
    (tmp_path / "shown.yaml").write_text(document(all_values(config), {"cell": "default"}))
    assert load(tmp_path / "shown.yaml", root=None, hostname="another") == config
