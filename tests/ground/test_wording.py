"""Phrases that many messages share."""

from agent.wording import did_you_mean, listed


def test_the_first_names_are_listed_and_the_others_counted() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed([]) == ""


def test_a_near_name_is_suggested_and_nothing_where_none_is_near() -> None:
    assert did_you_mean("polcies", ["cell", "policies"]) == "did you mean 'policies'?"
    assert did_you_mean("x", ["cell", "policies"], otherwise="see --help") == "see --help"
