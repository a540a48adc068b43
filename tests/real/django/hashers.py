"""A variant of Django's password hasher with few iterations, to save time."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class Quick(PBKDF2PasswordHasher):
    iterations = 1_000
