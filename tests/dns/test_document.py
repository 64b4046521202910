"""docs/names.md: what it shows comes of its commands."""

from tests.testlib.cell import CellUnderTest
from tests.testlib.documents import blocks, steps
from tests.testlib.names import leads
from tests.testlib.patience import eventually


def test_the_page_shows_what_its_commands_print(cell: CellUnderTest) -> None:
    job, web = cell.run_app("acme/shop/job"), cell.run_app("acme/shop/web")
    other = cell.run_app("acme/shop/web", name="web-1")
    eventually(lambda: leads(job, "web.shop.acme.cell.internal", web, other))
    (block,) = blocks("docs/names.md", test="tests/dns/test_document.py")
    for command, output in steps(block):
        words = command.split()
        assert words[0] == "cellnet"
        assert cell.cellnet(*words[1:]).out.replace(str(web.address), "10.255.1.2").split() == output.split()
