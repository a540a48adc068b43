"""Counts the token requests of each client by outcome and grant."""

import base64
import json
from collections import Counter, defaultdict
from threading import Lock
from urllib.parse import unquote_plus

lock = Lock()
counts = defaultdict(Counter)


def count(get_response):

    def middleware(request):
        response = get_response(request)
        if request.path == "/o/token/":
            outcome = json.loads(response.content).get("error", "granted")
            with lock:
                counts[client_of(request)][f"{outcome} {request.POST.get('grant_type', 'none')}"] += 1
        return response

    return middleware


def counts_of(client):
    with lock:
        return dict(counts[client])


def client_of(request):
    basic = request.headers.get("Authorization", "")
    if basic.startswith("Basic "):
        return unquote_plus(base64.b64decode(basic[6:]).decode().split(":")[0])
    return request.POST.get("client_id", "unknown")
