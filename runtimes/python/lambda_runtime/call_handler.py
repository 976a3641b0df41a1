"""Calls a handler in the form it was written in."""

_CO_VARARGS = 0x04
_CO_COROUTINE = 0x80


class HandlerCall:
    """A handler with what is known of its form: how many arguments it takes, and whether it is asynchronous.

    One event loop serves all invocations, so that clients made in one can be used in the next.
    """

    def __init__(self, handler):
        self._handler = handler
        self._arguments = _positional_arguments(handler)
        self._loop = None
        code = getattr(handler, "__code__", None)
        if code is not None and code.co_flags & _CO_COROUTINE:
            # Importing asyncio takes tens of milliseconds: during init, not in the first call.
            self._event_loop()

    def __call__(self, event, context):
        result = self._handler(*(event, context)[: self._arguments])
        if hasattr(result, "__await__"):
            return self._event_loop().run_until_complete(_awaited(result))
        return result

    def _event_loop(self):
        if self._loop is None:
            import asyncio

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop


async def _awaited(awaitable):
    return await awaitable


def _positional_arguments(handler):
    """How many of (event, context) the handler takes."""
    code = getattr(handler, "__code__", None)
    if code is not None and not hasattr(handler, "__self__") and not hasattr(handler, "__wrapped__"):
        return 2 if code.co_flags & _CO_VARARGS else code.co_argcount
    # Classes, bound methods, partials and decorated functions; slow to import and rarely needed.
    import inspect

    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)
