"""Minimal settings of Django with django-oauth-toolkit."""

import os

# Only for local tests.
SECRET_KEY = "no secret"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
USE_TZ = True

INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "oauth2_provider"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware", "counts.count"]
ROOT_URLCONF = "urls"
PASSWORD_HASHERS = ["hashers.Quick"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DATABASE"],
        "CONN_MAX_AGE": None,
        # With deferred transactions, a reader that starts to write would fail instead of waiting.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
# Creates the tables directly, because migrations would take a second.
MIGRATION_MODULES = {"auth": None, "contenttypes": None, "oauth2_provider": None}

OAUTH2_PROVIDER = {
    "ACCESS_TOKEN_EXPIRE_SECONDS": 600,
    # The password grant is deprecated, but the library supports it.
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": False,
    "DEFAULT_SCOPES": ["read"],
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ROTATE_REFRESH_TOKEN": True,
    "SCOPES": {"read": "to read", "write": "to write", "introspection": "to ask about tokens"},
}
