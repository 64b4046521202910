"""Apps as labels of metrics: as many as there is room for, whatever a container calls."""

from agent.insight.refusals.app_pairs import MOST, OF_ONE_SOURCE, OTHER, OUTSIDE, AppPairs

WEB, API = "acme/shop/web", "acme/shop/api"


def test_what_is_no_app_is_outside() -> None:
    labels = AppPairs()
    assert labels.label(WEB, API) == (WEB, API)
    ends = ("192.0.2.7", "10.255.1.77", "192.0.2.0/24", "api.example.com", "cell-2/x")
    assert {labels.label(WEB, each) for each in ends} == {(WEB, OUTSIDE)}
    assert labels.label("203.0.113.9", API) == (OUTSIDE, API)


def test_one_source_takes_no_others_room_and_what_is_known_keeps_its_label() -> None:
    labels = AppPairs()
    kept = labels.label(API, WEB)
    flood = {labels.label(WEB, f"acme/shop/a{number}") for number in range(10_000)}
    assert len(flood) == OF_ONE_SOURCE + 1
    assert (WEB, OTHER) in flood
    assert labels.label(API, WEB) == kept
    assert labels.label("acme/shop/new", API) == ("acme/shop/new", API)


def test_in_all_there_are_so_many() -> None:
    labels = AppPairs()
    found = {labels.label(f"acme/s{number}/web", f"acme/shop/a{other}") for number in range(200) for other in range(50)}
    assert len(found) <= MOST + MOST // OF_ONE_SOURCE + 1
    assert labels.label("acme/late/web", API) == (OTHER, OTHER)
