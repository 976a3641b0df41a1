import json


def handler(event, context):
    """Answers with the event itself, which over HTTP shows what a function gets to see of a request."""
    print("event", json.dumps(event))
    return event
