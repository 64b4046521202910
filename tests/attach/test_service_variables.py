"""Under which names an app finds the others, and what is said where two would have one name."""

from functools import partial

from agent.attach.service_variables import ServiceVariables, service_variables
from agent.identity.names import app_name
from agent.model.names import AppName
from tests.testlib.samples import app

WEB = app("web")


def made(*reached: AppName, prefixes: tuple[str, ...] = ("WARP_IST_",)) -> ServiceVariables:
    return service_variables(WEB, reached, prefixes=prefixes, name_of=lambda each: app_name(each, domain="cell.internal"))


def test_an_app_of_the_own_space_is_found_by_its_name_alone_and_others_by_all_of_theirs() -> None:
    assert dict(made(app("db"), app("my-cache"), app("acme/blog/db"), AppName("zeta", "data-lake", "db-2")).variables) == {
        "WARP_IST_db": "db.shop.acme.cell.internal",
        "WARP_IST_my_cache": "my-cache.shop.acme.cell.internal",
        "WARP_IST_acme_blog_db": "db.blog.acme.cell.internal",
        "WARP_IST_zeta_data_lake_db_2": "db-2.data-lake.zeta.cell.internal",
    }


def test_there_is_one_for_each_prefix_and_none_without() -> None:
    assert list(made(app("db"), prefixes=("SVC_", "A_")).variables) == ["A_db", "SVC_db"]
    assert made(app("db"), prefixes=()) == ServiceVariables()


def test_where_two_have_one_name_the_own_space_wins_and_then_the_shorter_name() -> None:
    near, far = app("acme-blog-db"), app("acme/blog/db")
    found = made(far, near, prefixes=("A_", "B_"))
    assert dict(found.variables) == dict.fromkeys(("A_acme_blog_db", "B_acme_blog_db"), "acme-blog-db.shop.acme.cell.internal")
    assert found.warnings == (
        "the service variable 'acme_blog_db' is that of acme/shop/acme-blog-db, so there is none for acme/blog/db",
    )
    longer, shorter = AppName("acme", "blog", "my-db"), AppName("acme", "blog-my", "db")
    for order in ((longer, shorter), (shorter, longer)):
        found = made(*order)
        assert dict(found.variables) == {"WARP_IST_acme_blog_my_db": "db.blog-my.acme.cell.internal"}
        assert found.warnings == (
            "the service variable 'acme_blog_my_db' is that of acme/blog-my/db, so there is none for acme/blog/my-db",
        )


def test_of_two_as_long_as_each_other_the_first_by_name_wins() -> None:
    one, two = AppName("a", "b-c", "db"), AppName("a-b", "c", "db")
    for order in ((one, two), (two, one)):
        assert list(made(*order).variables.values()) == ["db.b-c.a.cell.internal"]


def test_an_app_whose_name_dns_cannot_carry_has_none_and_that_is_said() -> None:
    whole = AppName("o" * 63, "s" * 63, "a" * 63)  # with two dots 191 characters
    domain = ".".join(["d" * 30, "e" * 30])  # and 62 with the dot before it: 253
    for name, expected in ((domain, 1), (f"x{domain}", 0)):
        found = service_variables(WEB, [whole], prefixes=["A_"], name_of=partial(app_name, domain=name))
        assert len(found.variables) == expected
        assert len(found.warnings) == 1 - expected
    assert found.warnings == (
        f"there is no service variable for {whole}: its name would have more than the 253 characters that DNS carries",
    )
