"""The control API for tests: each call is a POST of JSON to `/control/NAME`, and returns JSON."""

import json
import secrets
import uuid
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.http import JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model

from counts import counts_of

Application = get_application_model()
AccessToken = get_access_token_model()
RefreshToken = get_refresh_token_model()


def client(auth, secret="", hashed=False, grant=Application.GRANT_CLIENT_CREDENTIALS):
    public = auth == "none"
    application = Application.objects.create(
        client_id=f"client-{uuid.uuid4()}",
        client_secret=secret,
        hash_client_secret=hashed,
        client_type=Application.CLIENT_PUBLIC if public else Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=grant,
    )
    return {"id": application.client_id}


def secret(client, secret):
    application = Application.objects.get(client_id=client)
    application.client_secret = secret
    application.save()
    return {}


def revoke(client):
    """Expires the client's access tokens. They are kept, because the scopes of the refresh tokens are stored there."""
    now = timezone.now()
    tokens = AccessToken.objects.filter(application__client_id=client, expires__gt=now)
    return {"revoked": tokens.update(expires=now)}


def person(account, password):
    User.objects.create_user(account, password=password)
    return {}


def login(client, account, scope):
    application = Application.objects.get(client_id=client)
    user, _ = User.objects.get_or_create(username=account)
    access = AccessToken.objects.create(
        user=user,
        application=application,
        token=secrets.token_urlsafe(),
        expires=timezone.now() + timedelta(minutes=10),
        scope=scope,
    )
    refresh = RefreshToken.objects.create(
        user=user,
        application=application,
        token=secrets.token_urlsafe(),
        access_token=access,
        token_family=uuid.uuid4(),
    )
    return {"accessToken": access.token, "refreshToken": refresh.token}


def counts(client):
    """Returns the client's token requests by outcome and grant: `"granted client_credentials": 3`."""
    return counts_of(client)


calls = {call.__name__: call for call in (client, secret, revoke, person, login, counts)}


@csrf_exempt
def control(request, name):
    with transaction.atomic():
        return JsonResponse(calls[name](**json.loads(request.body)))
