"""Forms of the policy language that the dataplane does not enforce yet, taken all the same by tests of the language."""

from collections.abc import Iterator

import pytest

from agent.policy.language.forms import ENFORCED


@pytest.fixture(scope="module")
def every_form() -> Iterator[None]:
    """As if all were enforced."""
    with pytest.MonkeyPatch.context() as patch:
        for form in ENFORCED:
            patch.setitem(ENFORCED, form, True)
        yield
