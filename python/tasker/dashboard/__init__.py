"""A page that shows runners in the browser, for an application to mount or on a port of its own.

It needs `pip install 'tasker-rs[dashboard]'`, and is experimental: what is here may change.
"""

from tasker._extra import need as _need
from tasker._public import publish

_need("dashboard", "starlette")

# Behind the check, which says what to install.
from tasker.dashboard._app import asgi_app  # noqa: E402
from tasker.dashboard._serving import Serving, serve  # noqa: E402

__all__ = ["Serving", "asgi_app", "serve"]

publish(globals(), __all__, "tasker.dashboard")
