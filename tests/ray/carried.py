"""Context variables that actors can import."""

import contextvars

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
other: contextvars.ContextVar[str] = contextvars.ContextVar("other")
