"""The tests' door: each call is a POST of JSON to `/control/NAME`, and answers JSON."""

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
    """A client of the test's own."""
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
    """Another secret takes the place of the client's."""
    application = Application.objects.get(client_id=client)
    application.client_secret = secret
    application.save()
    return {}


def revoke(client):
    """Ends the client's access tokens. Without them, the toolkit would not know the scopes of their refresh tokens."""
    now = timezone.now()
    tokens = AccessToken.objects.filter(application__client_id=client, expires__gt=now)
    return {"revoked": tokens.update(expires=now)}


def person(account, password):
    """A person with a password of theirs."""
    User.objects.create_user(account, password=password)
    return {}


def login(client, account, scope):
    """A person signs in: an access token and a refresh token."""
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
    """How many token requests of the client came to what: `"granted client_credentials": 3`."""
    return counts_of(client)


calls = {call.__name__: call for call in (client, secret, revoke, person, login, counts)}


@csrf_exempt
def control(request, name):
    with transaction.atomic():
        return JsonResponse(calls[name](**json.loads(request.body)))
