"""The second argument of a handler; the names and types are AWS's."""

from json import loads
from time import time_ns


class Context:
    def __init__(self, init, invoke):
        self.function_name = init["functionName"]
        self.function_version = init["functionVersion"]
        self.invoked_function_arn = invoke["arn"]
        self.memory_limit_in_mb = str(init["memoryMb"])
        self.aws_request_id = invoke["id"]
        self.log_group_name = init["logGroup"]
        self.log_stream_name = init["logStream"]
        self.identity = CognitoIdentity()
        self.client_context = _client_context(invoke["clientContext"])
        self._deadline_ms = invoke["deadlineMs"]

    def get_remaining_time_in_millis(self):
        return max(0, int(self._deadline_ms) - time_ns() // 1_000_000)


class CognitoIdentity:
    """Always empty: Lambda Fleet has no Cognito."""

    cognito_identity_id = None
    cognito_identity_pool_id = None


class ClientContext:
    def __init__(self, members):
        self.custom = members.get("custom")
        self.env = members.get("env")
        self.client = Client(members.get("client"))


class Client:
    def __init__(self, members):
        members = members if isinstance(members, dict) else {}
        self.installation_id = members.get("installation_id")
        self.app_title = members.get("app_title")
        self.app_version_name = members.get("app_version_name")
        self.app_version_code = members.get("app_version_code")
        self.app_package_name = members.get("app_package_name")


def _client_context(text):
    """The caller's text. What is not a JSON object is the caller's mistake: the function sees none."""
    if not text:
        return None
    try:
        members = loads(text)
    except ValueError:
        return None
    return ClientContext(members) if isinstance(members, dict) else None
