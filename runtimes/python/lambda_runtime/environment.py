"""The process's environment: what the agent tells the runtime in it, and what user code sees."""

import os
import sys
import time


def take_boot_config():
    """``(channel, nonce, task root, code cache or None)``; all but the task root are removed: they are not for user code."""
    try:
        channel = os.environ.pop("LAMBDA_CHANNEL")
        nonce = os.environ.pop("LAMBDA_NONCE")
        code_cache = os.environ.pop("LAMBDA_CODE_CACHE", "") or None
        return channel, nonce, os.environ["LAMBDA_TASK_ROOT"], code_cache
    except KeyError as missing:
        raise SystemExit(f"lambda runtime: {missing} is not set: a node agent starts this program.") from None


def set_environment(init, task_root):
    """AWS's variables, then the function's own."""
    user = {str(key): str(value) for key, value in init["environment"].items()}
    os.environ.update(
        {
            "_HANDLER": init["handler"],
            "LAMBDA_TASK_ROOT": task_root,
            "LAMBDA_RUNTIME_DIR": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            "AWS_LAMBDA_FUNCTION_NAME": init["functionName"],
            "AWS_LAMBDA_FUNCTION_VERSION": init["functionVersion"],
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(init["memoryMb"]),
            "AWS_LAMBDA_LOG_GROUP_NAME": init["logGroup"],
            "AWS_LAMBDA_LOG_STREAM_NAME": init["logStream"],
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info[0]}.{sys.version_info[1]}",
            "AWS_REGION": "local",
            "AWS_DEFAULT_REGION": "local",
            "TZ": ":UTC",
            **user,
        }
    )
    time.tzset()


def set_trace_id(trace_id):
    """The trace id is an invocation's, so it changes with each of them."""
    if trace_id:
        os.environ["_X_AMZN_TRACE_ID"] = trace_id
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
