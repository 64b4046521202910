"""aiohttp's runner, as every server of the agent has it: signals are the agent's, and no request fills the log."""

import logging
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

LOGGER: Final = logging.getLogger("cellnet.http")


class _NotOfTheCaller(logging.Filter):
    """What is malformed in a request is answered with 400, and whoever sends it must not fill the log by it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be logged."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


LOGGER.addFilter(_NotOfTheCaller())


def runner(app: web.Application, *, shutdown: float) -> web.AppRunner:
    """Not set up yet. `shutdown`: seconds that requests may last at the end."""
    return web.AppRunner(app, handle_signals=False, access_log=None, logger=LOGGER, shutdown_timeout=shutdown)
