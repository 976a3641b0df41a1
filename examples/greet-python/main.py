def handler(event, context):
    """Answers {"message": "Hello, <name>!"}, called over HTTP (?name=) or with an event ({"name": ...})."""
    query = event.get("queryStringParameters") or {}
    name = query.get("name") or event.get("name") or "World"
    print(f"greeting {name}")
    return {"message": f"Hello, {name}!"}
