"""The page of `cellnet ui` in a real Chromium, over a real cell: it shows what the commands say, what it changes holds."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lab import children
from tests.testlib.browser import Browser, Page, running_browser
from tests.testlib.cell import CellUnderTest, Kept
from tests.testlib.documents import blocks, commands
from tests.testlib.instance import Instance
from tests.testlib.node import Connected, Refused
from tests.testlib.patience import eventually
from tests.testlib.shop import API, OTHER, WEB, web_to_api
from tests.testlib.users import NUMBER, READER


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, module_cell: Kept[CellUnderTest]) -> Iterator[Browser]:
    """In the cell's own network, as its operator's."""
    enter = ("nsenter", f"--net={module_cell.get().lab.netns}")
    with running_browser(tmp_path_factory.mktemp("browser"), enter=enter) as made:
        yield made


@pytest.fixture
def page(cell: CellUnderTest, browser: Browser) -> Iterator[Page]:
    """The page, opened by root at the address that `cellnet ui` prints."""
    with opened(cell, browser) as made:
        yield made


@contextmanager
def opened(cell: CellUnderTest, browser: Browser, *, who: Sequence[str] = ()) -> Iterator[Page]:
    """By another user, `who`, where it is given; the browser must be that one's."""
    with ExitStack() as stack:
        lab, words = cell.lab, ("ui", "--listen", "127.0.0.1:0")
        enter = ("nsenter", f"--net={lab.netns}", *who)
        served = subprocess.Popen(
            [*enter, *children.CELLNET, *words], stdout=subprocess.PIPE, env={**os.environ, "CELLNET_ROOT": str(lab.root)}
        )
        stack.callback(served.wait, 20)
        stack.callback(served.terminate)
        assert served.stdout is not None
        stack.callback(served.stdout.close)
        address = served.stdout.readline().decode().strip()
        made = browser.page()
        stack.callback(made.close)
        made.open(address)
        made.eventually("document.querySelector('#health').textContent !== 'connecting'")
        yield made
        assert made.complaints() == []


def app(name: str) -> str:
    return f'.app[data-name="{name}"]'


def edge(page: Page, source: str, to: str) -> str:
    """How the arrow between two apps is drawn, "" where there is none."""
    return str(page.js(f"document.querySelector('[data-edge=\"{source} {to}\"]')?.getAttribute('class') ?? ''"))


def figure(page: Page, name: str) -> str:
    return page.text(f'[data-figure="{name}"]')


@pytest.fixture
def shop(cell: CellUnderTest) -> tuple[Instance, Instance]:
    web, api = cell.containers(WEB, API)
    cell.policy_file("shop.yaml", web_to_api("tcp: 8080"))
    return web, api


def test_an_arrow_names_its_policy_with_file_and_line(shop: tuple[Instance, Instance], page: Page) -> None:
    eventually(lambda: "policy" in edge(page, WEB, API))
    x, y = page.js(
        "(() => { const [a, b] = ['web', 'api'].map((each) => document.querySelector(`.app[data-name='acme/shop/${each}']`)"
        ".getBoundingClientRect()); return [(a.right + b.left) / 2, (a.top + a.bottom + b.top + b.bottom) / 4] })()"
    )
    page.press(x, y)
    page.eventually("document.querySelector('#panel .policy') !== null")
    assert "policies.d/shop.yaml:2" in page.text("#panel .policy")
    assert "It works" in page.text("#panel .verdict")
    page.js(
        "[...document.querySelectorAll('#panel .acts button')].find((each) => each.textContent === 'Call for real').click()"
    )
    page.eventually("document.querySelector('#panel .steps').textContent.includes('try: ')")
    assert "It works" in page.text("#panel .verdict")


def test_every_figure_is_the_commands_own(cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page) -> None:
    web, api = shop
    assert web.connect(api, 9000) is Refused

    def printed(*words: str) -> object:
        return json.loads(cell.cellnet(*words, "--json", code=None).out)

    def agree() -> bool:
        status, apps, policies = printed("status"), printed("apps"), printed("policy", "list")
        flows = cell.cellnet("flows", "--json").out.splitlines()
        assert isinstance(status, dict)
        assert isinstance(apps, list)
        assert isinstance(policies, list)
        wanted = {
            "apps": len(apps), "policies": len(policies), "instances here": status["cell"]["attachments"],
            "refused, last minute": status["denied"]["last_minute"], "flows": len(flows), "problems": len(status["problems"]),
        }  # fmt: skip
        return {name: figure(page, name) for name in wanted} == {name: str(value) for name, value in wanted.items()}

    eventually(agree)
    page.click("#cells-tab")
    ca = cell.status().at("ca")
    for field in ("root_not_after", "cell_not_after", "next_expiry"):
        assert ca.text(field).replace("T", " ").removesuffix("Z") in page.text("#cells")
    for each in cell.client.get("/v1/cells").each():
        assert each.text("name") in page.text("#cells")
    page.click("#list-tab")
    page.eventually("document.querySelector('#list').innerText.includes('tcp/8080')")


def test_what_an_audit_lets_pass_is_no_refusal(cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page) -> None:
    web, api = shop
    cell.policy_file("trial.yaml", f"policies: [{{from: {WEB}, to: {API}, tcp: 9050, mode: audit}}]\n")
    api.listen(9050)
    assert web.connect(api, 9050) is Connected
    eventually(lambda: "audit" in cell.cellnet("flows", "--denied", "--port", "tcp/9050").out)
    assert web.connect(api, 9051) is Refused
    page.click("#list-tab")
    page.eventually("document.querySelector('#list').innerText.includes('tcp/9051 (policy')")
    page.eventually("document.querySelector('#list').innerText.includes('tcp/9050 on trial')")
    assert "9050 (audit" not in page.text("#list")


def test_a_refusal_turns_red_as_it_happens_and_says_why(
    cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page
) -> None:
    web, api = shop
    page.eventually(f"document.querySelector('{app(API)}.ready') !== null")
    eventually(lambda: "policy" in edge(page, WEB, API))
    assert edge(page, API, WEB) == ""
    assert api.connect(web, 8080) is Refused
    eventually(lambda: "refused" in edge(page, API, WEB))
    page.eventually("document.querySelector('#live').textContent === 'Refused: api to web, policy'")
    page.click("#panel .denials button")
    page.eventually("document.querySelector('#panel .verdict')?.textContent.includes('It does not work')")
    steps = {
        each.text("what")
        for each in cell.client.get("/v1/explain", **{"from": API, "to": WEB, "port": "tcp/8080"}).at("steps").each()
    }
    shown = page.text("#panel .steps")
    assert [each for each in steps if each not in shown] == []


def test_two_apps_are_clicked_allowed_and_undone(cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page) -> None:
    web, api = shop
    page.click("#allow")
    page.click(app(API))
    page.click(app(WEB))
    page.type('form.allow input[name="ports"]', "tcp/8080")
    page.key("Enter")
    page.eventually("document.querySelector('.diff')?.textContent.includes('acme/shop/api → acme/shop/web  tcp/8080')")
    assert api.connect(web, 8080) is Refused, "a look at it changes nothing"
    page.key("Enter")
    page.eventually("document.querySelector('.verdict')?.textContent.startsWith('Done')")
    assert api.connect(web, 8080) is Connected
    assert "-to-web-" in cell.cellnet("policy", "list").out
    page.key("Enter")  # Undo
    page.eventually("document.querySelector('.diff .less') !== null && document.querySelector('.acts .first') !== null")
    page.key("Enter")
    page.eventually("document.querySelector('.verdict')?.textContent.startsWith('Done: undone')")
    assert api.connect(web, 8080) is Refused
    page.click("#changes-tab")
    page.eventually("document.querySelectorAll('#changes table').length === 2")
    assert "undone" in page.text("#changes table")
    assert "policy deleted from the store" in page.text("#changes")


def test_a_check_that_is_left_does_not_come_back_with_what_is_allowed_next(shop: tuple[Instance, Instance], page: Page) -> None:
    page.click(app(WEB))
    page.click("#panel .acts button:last-child")
    page.eventually("document.querySelector('#hint').hidden === false")
    page.key("Escape")
    page.eventually("document.querySelector('#hint').hidden")
    page.click("#allow")
    page.click(app(WEB))
    page.click(app(API))
    page.eventually("document.querySelector('#panel h2').textContent === 'Allow a connection'")


def test_a_hostile_note_is_text(cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page) -> None:
    note = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>"
    cell.cellnet("policy", "allow", WEB, OTHER, "tcp/1", "--note", note)
    page.click("#list-tab")
    page.eventually(f"document.querySelector('#list').innerText.includes({json.dumps(note)})")
    assert page.js("document.querySelectorAll('#list img, #list script').length") == 0
    assert "taken" not in page.js("document.title")


def test_it_is_used_by_keyboard_alone(shop: tuple[Instance, Instance], page: Page) -> None:
    page.eventually(f"document.querySelector('{app(WEB)}') !== null")
    page.js("document.querySelector('.app[tabindex=\"0\"]').focus()")
    names = set()
    for each in ("ArrowLeft", "ArrowRight", "ArrowLeft"):
        names.add(page.js("document.activeElement.dataset.name"))
        page.key(each)
    assert names == {WEB, API}
    page.key("Enter")
    page.eventually("document.activeElement.matches('#panel h2')")
    assert page.text("#panel h2") in (WEB, API)
    page.key("Escape")
    page.eventually("document.querySelector('#panel h2').textContent === 'This cell'")


def test_it_fits_on_a_phone_and_in_the_dark(shop: tuple[Instance, Instance], page: Page) -> None:
    page.look(width=390, height=844, dark=True)
    for each in ("map", "list", "cells", "changes"):
        page.click(f"#{each}-tab")
        page.eventually(f"document.querySelector('#{each}').checkVisibility()")
        assert page.js("document.documentElement.scrollWidth <= innerWidth")
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 28)"


def test_a_name_that_leads_here_shows_nothing(page: Page) -> None:
    """The browser believes that rebound.example is 127.0.0.1."""
    page.open(str(page.js("location.origin")).replace("127.0.0.1", "rebound.example"))
    assert "is not how this page is called" in page.text("body")


def test_an_agent_that_is_lost_is_shown_and_one_that_is_back_too(
    cell: CellUnderTest, shop: tuple[Instance, Instance], page: Page
) -> None:
    page.eventually(f"document.querySelector('{app(API)}') !== null")
    cell.lab.stop()
    page.eventually("!document.querySelector('#banner').hidden")
    assert "The agent does not answer" in page.text("#banner")
    assert page.js(f"document.querySelector('{app(API)}') !== null"), "what was known stays"
    cell.lab.start()
    page.eventually("document.querySelector('#banner').hidden")


def test_the_page_shows_a_command_that_works(page: Page) -> None:
    """It is what every test here has started."""
    (block,) = blocks("docs/ui.md", test="tests/cell/insight/test_ui.py")
    assert commands(block) == ["sudo cellnet ui"]
    assert page.text("h1").startswith("cellnet")


def test_a_user_of_the_group_sees_all_and_changes_nothing(
    cell: CellUnderTest, shop: tuple[Instance, Instance], tmp_path: Path
) -> None:
    web, api = shop
    assert web.connect(api, 9000) is Refused
    os.chown(tmp_path, NUMBER, NUMBER)
    enter = ("nsenter", f"--net={cell.lab.netns}", *READER)
    with running_browser(tmp_path, enter=enter) as own, opened(cell, own, who=READER) as page:
        eventually(lambda: "policy" in edge(page, WEB, API))
        eventually(lambda: figure(page, "instances here") == "2")
        assert "You may look. Changes need root" in page.text("#panel")
        page.click(app(WEB))
        page.eventually("document.querySelector('#panel .acts button') !== null")
        assert page.js("document.querySelector('#allow').disabled")
        assert page.js(
            "[...document.querySelectorAll('#panel .acts button')].find((e) => /^Allow/.test(e.textContent)).disabled"
        )
        ends = {"from": WEB, "to": API}
        for path, more in (("changes", {"ports": ["tcp/9000"]}), ("explain/try", {"port": "tcp/9000"})):
            asked = {**ends, **more}
            send = f"fetch('/v1/{path}', {{method: 'POST', body: JSON.stringify({json.dumps(asked)})}})"
            assert page.js(f"{send}.then((each) => each.status)") == 403, "by hand either"
    assert web.connect(api, 9000) is Refused
