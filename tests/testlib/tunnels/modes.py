"""The modes of mutual TLS, as the dataplane knows them."""

from typing import Final

from dataplane.state import MutualTls
from tests.testlib.oracle import Mode

MODES: Final = {
    Mode.NONE: MutualTls(),
    Mode.ACCEPT: MutualTls(served=True, redirected=True),
    Mode.STRICT: MutualTls(served=True, redirected=True, plain=False),
}
BACK: Final = MutualTls(served=True)  # on the way from the others to none
