"""Routes `/o/` to the provider, `/api/` to a protected API, and `/control/` to the control API for tests."""

from django.http import JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.decorators import protected_resource
from oauth2_provider.models import get_access_token_model
from oauth2_provider.urls import metadata_urlpatterns

from control import control


def answer(request, **_):
    """Returns the claims of the token, and the request's method and body."""
    text = request.headers["Authorization"].split(" ", 1)[1]
    arrived = {"method": request.method, "body": request.body.decode()}
    token = get_access_token_model().objects.filter(token=text).first()
    if not token:
        # The token was revoked after it was checked.
        return JsonResponse(arrived)
    client = token.application.client_id
    sub = token.user.username if token.user else client
    return JsonResponse({"client_id": client, "sub": sub, "scope": token.scope, **arrived})


def protected(scopes):
    """Requires a token with these scopes; the toolkit checks it and creates the challenge."""
    return csrf_exempt(protected_resource(scopes=scopes, advertise_metadata=True)(answer))


urlpatterns = [
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
    path("", include(metadata_urlpatterns)),
    path("api/any/<path:rest>", protected([])),
    path("api/read/<path:rest>", protected(["read"])),
    path("api/write/<path:rest>", protected(["write"])),
    path("control/<str:name>", control),
]
