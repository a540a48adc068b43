"""Runs django-oauth-toolkit on a loopback socket.

    python server.py DATABASE ADDRESSES-FILE

When the server is ready, it writes the issuer, whose path is `/o`, to the file.
"""

import os
import sys

database, addresses = sys.argv[1:]
os.environ["DATABASE"] = database
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

import django  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402


class Server(ThreadedWSGIServer):
    # Enough for the concurrent connections of the tests.
    request_queue_size = 256


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        """Disables the log of requests."""


def main():
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    server = Server(("127.0.0.1", 0), Handler)
    server.set_app(get_wsgi_application())
    # Renamed, so that no reader sees half of the file.
    with open(addresses + ".new", "w") as file:
        print(f"export TOWER_BEARER_DJANGO=http://127.0.0.1:{server.server_port}/o", file=file)
    os.rename(addresses + ".new", addresses)
    server.serve_forever()


main()
