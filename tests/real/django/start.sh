# Installs django-oauth-toolkit with what it needs, as requirements.txt pins it, and starts it. Read by tests/run.

django=$real/django
mkdir -p "$django"
if ! cmp -s tests/real/django/requirements.txt "$django/installed"; then
    need python3 python3 python3-venv
    say "installing django-oauth-toolkit"
    rm -rf "$django/venv"
    # Debian keeps what makes a virtual environment in a package of its own.
    python3 -m venv "$django/venv" >"$real/log/pip.log" 2>&1 || { debian venv python3-venv && python3 -m venv "$django/venv" >"$real/log/pip.log" 2>&1; } ||
        { tail -n 20 "$real/log/pip.log" >&2; fail "python3 -m venv failed"; }
    "$django/venv/bin/pip" install --quiet --require-hashes --disable-pip-version-check -r tests/real/django/requirements.txt \
        >"$real/log/pip.log" 2>&1 || { tail -n 20 "$real/log/pip.log" >&2; fail "pip install failed"; }
    cp tests/real/django/requirements.txt "$django/installed"
fi

rm -f "$django/addresses.sh"
PYTHONDONTWRITEBYTECODE=1 start django "$django/venv/bin/python" tests/real/django/server.py "$django/tokens.sqlite3" "$django/addresses.sh"
await django test -e "$django/addresses.sh" || fail "django-oauth-toolkit does not start"
. "$django/addresses.sh"
