"""Declared apps: those of one space at a time, kept in the cell's own file."""

import pytest

from agent.errors import HostRefused
from agent.model.names import Space
from agent.store.database import Database
from agent.store.declared_apps import DeclaredApps
from tests.testlib.samples import app

SHOP, BLOG = Space("acme", "shop"), Space("acme", "blog")


def test_what_is_declared_of_a_space_is_replaced_and_other_spaces_keep_theirs(database: Database) -> None:
    declared = DeclaredApps(database)
    assert declared.all() == frozenset()
    declared.declare(SHOP, [app("web"), app("db")])
    declared.declare(BLOG, [app("acme/blog/web")])
    declared.declare(SHOP, [app("db"), app("cache")])
    assert declared.all() == {app("db"), app("cache"), app("acme/blog/web")}
    declared.declare(SHOP, [])
    assert declared.all() == {app("acme/blog/web")}


def test_it_is_kept_over_a_restart_and_the_same_object_while_nothing_changed(database: Database) -> None:
    DeclaredApps(database).declare(SHOP, [app("web")])
    declared = DeclaredApps(database)
    before = declared.all()
    assert before == {app("web")}
    declared.declare(SHOP, [app("web")])
    assert declared.all() is before


def test_a_file_that_cannot_be_written_changes_nothing(database: Database) -> None:
    declared = DeclaredApps(database)
    declared.declare(SHOP, [app("web")])
    database.path.unlink()
    with pytest.raises(HostRefused):
        declared.declare(SHOP, [])
    assert declared.all() == {app("web")}
