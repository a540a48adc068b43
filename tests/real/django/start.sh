# Installs django-oauth-toolkit as pinned by requirements.txt, and starts it. Sourced by tests/run.

make_venv() {
    python3 -m venv "$django/venv" >"$real/log/pip.log" 2>&1
}

django=$real/django
mkdir -p "$django"
if ! cmp -s tests/real/django/requirements.txt "$django/installed"; then
    need python3 python3 python3-venv
    say "installing django-oauth-toolkit"
    rm -rf "$django/venv"
    # Debian packages the venv module separately.
    make_venv || { debian "python3 -m venv" python3-venv && make_venv; } || { tell pip; fail "python3 -m venv failed"; }
    "$django/venv/bin/pip" install --quiet --require-hashes --disable-pip-version-check -r tests/real/django/requirements.txt \
        >"$real/log/pip.log" 2>&1 || { tell pip; fail "pip install failed"; }
    cp tests/real/django/requirements.txt "$django/installed"
fi

PYTHONDONTWRITEBYTECODE=1 start django "$django/venv/bin/python" tests/real/django/server.py "$run/django.sqlite3" "$run/django.sh"
