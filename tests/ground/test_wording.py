"""Phrases that many messages share."""

from agent.wording import did_you_mean, listed, natural


def test_the_first_names_are_listed_and_the_others_counted() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed([]) == ""


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["app-10", "2", "app-2", "app", "", "app-1b", "app-1"]
    assert sorted(names, key=natural) == ["", "2", "app", "app-1", "app-1b", "app-2", "app-10"]


def test_a_near_name_is_suggested_and_nothing_where_none_is_near() -> None:
    assert did_you_mean("polcies", ["cell", "policies"]) == "did you mean 'policies'?"
    assert did_you_mean("x", ["cell", "policies"], otherwise="see --help") == "see --help"
