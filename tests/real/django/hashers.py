"""Django's own way to hash secrets, in a thousandth of the time: what is tested here is not how slow it is."""

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class Quick(PBKDF2PasswordHasher):
    iterations = 1_000
