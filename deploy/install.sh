#!/usr/bin/env bash
# Install Gatepost on Debian 12 or newer, or upgrade it, from this checkout. Safe to repeat: what is in place is left alone.
#
#   deploy/install.sh                      install or upgrade this machine (as root)
#   deploy/install.sh --root DIR           lay everything out below DIR instead and print what would be run on the machine
#   deploy/install.sh --root DIR --without-packages    the same without the Python packages (needs no network)
#
# Lays out:  /opt/gatepost/releases/NAME   one virtual environment for each release; /opt/gatepost/venv points to the one in force
#            /etc/gatepost                 gatepost.toml and master.key, never overwritten
#            /var/lib/gatepost             database, spool, vault
#            /etc/systemd/system           the units;  /usr/local/bin/gatepost  the command
#
# An upgrade builds the new release while the old one works. Then: stop web, schedule, smtp (which drains), deliver; copy the
# database; migrate; start in the reverse order. Senders try again meanwhile. If migrating fails the copy and the old release come
# back. A first installation starts nothing: the starter policy is not yours.
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin # the system's Python: the service's user cannot read one in somebody's home
umask 022 # so that the service's user can read the releases; what is secret gets its own mode

SOURCE=$(cd "$(dirname "$0")/.." && pwd)
ROOT=
PACKAGES=yes
STOP_ORDER=(gatepost-web gatepost-schedule gatepost-smtp gatepost-deliver)
START_ORDER=(gatepost-deliver gatepost-smtp gatepost-schedule gatepost-web)
KEEP_RELEASES=2

say() { printf 'gatepost: %s\n' "$*"; }
fail() { printf 'gatepost: %s\n' "$*" >&2; exit 1; }

# On the machine: do it. Below --root: say it.
on_machine() {
    if [ -n "$ROOT" ]; then
        say "would run: $*"
    else
        "$@"
    fi
}

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --root)
                [ $# -ge 2 ] && [ -n "$2" ] || fail "--root needs a folder"
                mkdir -p "$2"
                ROOT=$(cd "$2" && pwd)
                [ "$ROOT" != / ] || fail "--root / is the machine itself: leave it out"
                shift
                ;;
            --without-packages) PACKAGES=no ;;
            -h | --help)
                sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
                exit 0
                ;;
            *) fail "unknown argument $1 (see --help)" ;;
        esac
        shift
    done
    [ "$PACKAGES" = yes ] || [ -n "$ROOT" ] || fail "--without-packages goes with --root only"
}

check_machine() {
    [ -f "$SOURCE/requirements/run.txt" ] || fail "$SOURCE is not a checkout of Gatepost"
    [ -n "$ROOT" ] || [ "$(id -u)" = 0 ] || fail "run it as root (or with --root DIR to look first)"
    if [ -z "$ROOT" ] && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y python3 python3-venv libarchive13 libmagic1 >/dev/null ||
            fail "python3, python3-venv, libarchive13 and libmagic1 could not be installed"
    fi
    PYTHON=$(command -v python3) || fail "there is no python3"
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$PYTHON is older than Python 3.11"
}

make_user() {
    if ! getent passwd gatepost >/dev/null; then
        on_machine adduser --system --group --home /var/lib/gatepost --no-create-home --gecos "Gatepost" gatepost
    fi
}

make_folders() {
    install -d -m 755 "$ROOT/opt/gatepost" "$ROOT/opt/gatepost/releases" "$ROOT/usr/local/bin" "$ROOT/etc/systemd/system"
    install -d -m 750 "$ROOT/etc/gatepost" "$ROOT/var/lib/gatepost"
    on_machine chown root:gatepost /etc/gatepost
    on_machine chown gatepost:gatepost /var/lib/gatepost
}

# The version and a hash over lock and code: the same checkout gives the same name.
release_name() {
    local version hash
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$SOURCE/pyproject.toml")
    hash=$(cd "$SOURCE" && find gateway webui migrations requirements/run.txt pyproject.toml -type f \
        ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-8)
    echo "$version-$hash"
}

# A virtual environment cannot be renamed, so a mark in it says that it is complete; without the mark it is built again.
build_release() {
    local release=$ROOT/opt/gatepost/releases/$RELEASE work
    if [ -e "$release/.complete" ]; then
        say "release $RELEASE is built already"
        return
    fi
    say "building release $RELEASE"
    rm -rf "$release"
    if [ "$PACKAGES" = no ]; then
        mkdir -p "$release/bin"
        printf '#!/bin/sh\necho "the packages were left out" >&2\nexit 1\n' >"$release/bin/gatepost"
        chmod 755 "$release/bin/gatepost"
    else
        "$PYTHON" -m venv "$release" || fail "no virtual environment could be made; on Debian: apt-get install python3-venv"
        "$release/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
            -r "$SOURCE/requirements/run.txt" || fail "the packages of requirements/run.txt could not be installed"
        work=$(mktemp -d)
        (cd "$SOURCE" && cp -r gateway webui migrations pyproject.toml README.md LICENSE "$work/")
        "$release/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$work" ||
            fail "Gatepost itself could not be installed"
        rm -rf "$work"
    fi
    touch "$release/.complete"
}

put() { # put MODE FILE PLACE: replace it if it differs, say so
    if ! cmp -s "$2" "$ROOT$3"; then
        install -D -m "$1" "$2" "$ROOT$3"
        say "put $3"
    fi
}

put_settings() {
    if [ ! -e "$ROOT/etc/gatepost/gatepost.toml" ]; then
        put 640 "$SOURCE/deploy/gatepost.toml" /etc/gatepost/gatepost.toml
        on_machine chown root:gatepost /etc/gatepost/gatepost.toml
    fi
    if [ ! -e "$ROOT/etc/gatepost/master.key" ] && [ "$PACKAGES" = yes ]; then
        # Never printed, never in an argument: made and written by one process.
        "$ROOT/opt/gatepost/releases/$RELEASE/bin/python" -c \
            'import sys, pathlib; from gateway.masterkey import create_master_key; create_master_key(pathlib.Path(sys.argv[1]))' \
            "$ROOT/etc/gatepost/master.key"
        on_machine chown gatepost:gatepost /etc/gatepost/master.key
        say "made /etc/gatepost/master.key: keep a copy in a safe place, not beside the backups"
    fi
}

put_units() {
    local unit
    for unit in gatepost.target gatepost-smtp.service gatepost-deliver.service gatepost-schedule.service gatepost-web.service; do
        put 644 "$SOURCE/deploy/systemd/$unit" "/etc/systemd/system/$unit"
    done
    put 644 "$SOURCE/deploy/systemd/gatepost-.service.d/common.conf" /etc/systemd/system/gatepost-.service.d/common.conf
    put 755 "$SOURCE/deploy/gatepost" /usr/local/bin/gatepost
    on_machine systemctl daemon-reload
}

current_release() {
    if [ -L "$ROOT/opt/gatepost/venv" ]; then
        basename "$(readlink "$ROOT/opt/gatepost/venv")"
    fi
}

point_to() { # point_to RELEASE: in one step, so that no moment is without
    ln -sfn "releases/$1" "$ROOT/opt/gatepost/venv.new"
    mv -T "$ROOT/opt/gatepost/venv.new" "$ROOT/opt/gatepost/venv"
}

as_service() { # as_service RELEASE PROGRAM ARGUMENTS: as the service's user with the service's settings
    on_machine runuser -u gatepost -- env GATEPOST_CONFIG=/etc/gatepost/gatepost.toml sh -c 'umask 077; exec "$@"' sh \
        "/opt/gatepost/releases/$1/bin/$2" "${@:3}"
}

start_services() { # start_services SERVICE...: in START_ORDER, those that are named
    local service
    for service in "${START_ORDER[@]}"; do
        case " $* " in *" $service "*) on_machine systemctl start "$service.service" ;; esac
    done
}

upgrade_from() { # upgrade_from RELEASE
    local service running=() copy=/var/lib/gatepost/before-$RELEASE.db
    for service in "${STOP_ORDER[@]}"; do
        if [ -n "$ROOT" ] || systemctl --quiet is-active "$service.service"; then
            running+=("$service")
        fi
    done
    for service in "${running[@]}"; do # STOP_ORDER
        on_machine systemctl stop "$service.service"
    done
    if ! as_service "$RELEASE" python - save "$copy" <"$SOURCE/deploy/copy_database.py"; then
        start_services "${running[@]}"
        fail "the database could not be copied; release $1 goes on"
    fi
    if ! as_service "$RELEASE" gatepost migrate; then
        as_service "$RELEASE" python - back "$copy" <"$SOURCE/deploy/copy_database.py"
        start_services "${running[@]}"
        fail "migrating failed (see above); release $1 goes on"
    fi
    point_to "$RELEASE"
    start_services "${running[@]}"
    say "release $RELEASE is in force; before it: $1"
}

first_install() {
    as_service "$RELEASE" gatepost migrate
    point_to "$RELEASE"
    cat <<'TEXT'
gatepost: installed, not started: the starter policy knows the domain corp.example only. Next:
  1. edit /etc/gatepost/gatepost.toml (listeners, hostname, TLS)
  2. gatepost policy export > policy.yaml; edit it (domains, routes); gatepost policy publish - < policy.yaml
  3. systemctl enable --now gatepost.target; gatepost check
TEXT
}

remove_old_releases() { # the newest KEEP_RELEASES stay, with the copies of the database made for them
    local old
    while read -r old; do
        if [ "$old" != "$(current_release)" ]; then
            rm -rf "$ROOT/opt/gatepost/releases/$old" "$ROOT/var/lib/gatepost/before-$old.db"
        fi
    done < <(cd "$ROOT/opt/gatepost/releases" && ls -1t | tail -n +$((KEEP_RELEASES + 1)))
}

read_arguments "$@"
check_machine
RELEASE=$(release_name)
make_user
make_folders
build_release
put_settings
put_units
BEFORE=$(current_release)
if [ -z "$BEFORE" ]; then
    first_install
elif [ "$BEFORE" = "$RELEASE" ]; then
    say "release $RELEASE is in force already: nothing was stopped"
else
    upgrade_from "$BEFORE"
fi
remove_old_releases
