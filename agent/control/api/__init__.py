"""The addresses of the control API, a module for each subject: what it asks of the agent, its bodies, views and routes.

The daemon answers with its real parts (agent/daemon/answers), the tests from memory. Every question raises the errors of
agent/errors.py and nothing else; any other exception is answered as a Bug. A question is cancelled when it takes longer than
the server's limit or when the agent stops: an attach must then undo what it began.
"""

from aiohttp import web

from agent.control.api.attachments import AttachmentsApi, AttachmentService
from agent.control.api.ca import CaApi, CaService
from agent.control.api.cells import CellsApi, CellService
from agent.control.api.policies import PoliciesApi, PolicyService
from agent.control.api.status import StatusApi, StatusService


def routes(
    *,
    attachments: AttachmentService,
    policies: PolicyService,
    cells: CellService,
    ca: CaService,
    status: StatusService,
) -> list[web.RouteDef]:
    """All addresses."""
    apis = (AttachmentsApi(attachments), PoliciesApi(policies), CellsApi(cells), CaApi(ca), StatusApi(status))
    return [route for api in apis for route in api.routes()]
