#!/bin/sh
# Installs groundmist-sync on a server of your own, and sets it up. For Debian 12, Ubuntu 24.04 and newer, as root:
#
#   curl -fsSL https://apt.groundmist.xyz/install.sh | sh
#   curl -fsSL https://apt.groundmist.xyz/install.sh | sh -s -- --domain sync.example.com --owner alice.example.com
#   sh install.sh --deb groundmist-sync_0.1.0_amd64.deb
#
#   --deb FILE    install this package, and add no repository: updates are then up to you
#   --no-setup    install only
#   --help        say this
#
# Everything else is passed on to `groundmist-sync setup`. It adds a package repository, whose key is trusted for that
# repository only and from which nothing but groundmist-sync is installed, and changes nothing else; whatever it cannot do it
# says, before it has changed anything.
set -eu

# Where packages come from; packaging/release writes the sum of the repository's description here, the key in it included.
REPOSITORY=${GROUNDMIST_REPOSITORY:-https://apt.groundmist.xyz}
SOURCES_SHA256=${GROUNDMIST_SOURCES_SHA256:-}
SOURCES=/etc/apt/sources.list.d/groundmist-sync.sources
PREFERENCES=/etc/apt/preferences.d/groundmist-sync
# Seconds that another apt may hold its lock.
LOCK=300

say() { printf '%s\n' "$*"; }
refuse() {
    printf 'groundmist-sync was not installed: %s\n' "$*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

usage() {
    cat <<'END'
install.sh [--deb FILE] [--no-setup] [what groundmist-sync setup takes, such as --domain NAME --owner HANDLE]
END
}

# The whole number before the first dot.
whole() { printf '%s' "${1%%.*}" | grep -E '^[0-9]+$' || echo 0; }

check_system() {
    [ -r /etc/os-release ] || refuse "this is no Linux that says which it is. The program itself runs on any: see docs/PACKAGING.md"
    # shellcheck disable=SC1091
    . /etc/os-release
    name=${PRETTY_NAME:-this system}
    case ${ID:-} in
        debian) oldest=12 ;;
        ubuntu) oldest=24 ;;
        *) refuse "$name is neither Debian nor Ubuntu. The program itself runs on any Linux, copy it there; or take the container image" ;;
    esac
    # Debian's testing has no number.
    [ -z "${VERSION_ID:-}" ] || [ "$(whole "$VERSION_ID")" -ge "$oldest" ] ||
        refuse "$name is too old: it needs Debian 12 or Ubuntu 24.04, or newer. Upgrade the system, or copy the program there by itself"
    if ! has apt-get || ! has dpkg; then refuse "apt is missing"; fi
    architecture=$(dpkg --print-architecture)
    case $architecture in
        amd64 | arm64) ;;
        *) refuse "there are packages for amd64 and arm64, and this machine is $architecture. On a 64-bit Raspberry Pi install the 64-bit system" ;;
    esac
    [ "$(id -u)" = 0 ] || refuse "it takes root to install a package. Run it as root, with sudo: curl … | sudo sh"
    [ -d /run/systemd/system ] ||
        refuse "systemd does not run here, which starts and watches the server. Is this a container, install on the machine itself, or use the container image"
}

# Port 443, and 80, are this server's; who has them?
check_ports() {
    has ss || return 0
    for port in 443 80; do
        # Its own sockets are systemd's or its own.
        who=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)".*/\1/p' | sort -u |
            grep -vxE 'systemd|groundmist-sync' | tr '\n' ' ')
        [ -z "$who" ] ||
            refuse "port $port is used by ${who% }, and the server needs it for encrypted connections and its certificate. Stop that program (systemctl disable --now ${who%% *}), or install the package by hand and put the server behind it: docs/INSTALL.md, \"Behind a proxy\""
    done
}

# That repository may not replace a package of the system. By its host: what it says about itself it could change.
preferences() {
    host=$(sed -n 's|^URIs: *[a-z]*://\([^/:]*\).*|\1|p' "$1")
    cat <<END
# From there groundmist-sync only: apt_preferences(5).
Package: groundmist-sync
Pin: origin "$host"
Pin-Priority: 500

Package: *
Pin: origin "$host"
Pin-Priority: -1
END
}

# FILE PLACE: an owner's own file is not overwritten.
not_hers() {
    [ ! -e "$2" ] || cmp -s "$1" "$2" ||
        refuse "$2 is there already, and is not what this script would write. If you do not need it, remove it and run this again; else go on without this script: apt install groundmist-sync, then groundmist-sync setup"
}

# What this run has added; what was there before stays.
take_back() {
    [ "$added" = no ] || rm -f "$SOURCES"
    [ "$pinned" = no ] || rm -f "$PREFERENCES"
}

add_repository() {
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    sources=$new/sources
    url=$REPOSITORY/groundmist-sync.sources
    case $REPOSITORY in
        https://* | file:/*) ;;
        *) refuse "$REPOSITORY is not an https: address, and what comes from there has to be what was sent" ;;
    esac
    if [ "${REPOSITORY#file:}" != "$REPOSITORY" ]; then
        cp "${REPOSITORY#file:}/groundmist-sync.sources" "$sources" || refuse "there is no repository at $REPOSITORY"
    elif has curl; then
        curl --proto '=https' --tlsv1.2 -fsSL --max-time 60 --max-filesize 65536 "$url" -o "$sources" || refuse "$url cannot be fetched. Is this machine on the Internet?"
    elif has wget; then
        # Sent elsewhere it would go there without encryption too: --https-only is for other uses.
        wget --max-redirect=0 -q -T 60 -O "$sources" "$url" || refuse "$url cannot be fetched. Is this machine on the Internet?"
    else
        refuse "neither curl nor wget is here: apt install curl"
    fi
    grep -q '^Signed-By:' "$sources" || refuse "what $url gives is no repository with a key"
    if [ -n "$SOURCES_SHA256" ]; then
        printf '%s  %s\n' "$SOURCES_SHA256" "$sources" | sha256sum --check --status ||
            refuse "what $url gives is not what this script was made for. Fetch the newest install.sh; if that says the same, somebody has changed it on the way: please report it"
    fi
    preferences "$sources" >"$new/preferences"
    not_hers "$sources" "$SOURCES"
    not_hers "$new/preferences" "$PREFERENCES"
    added=no pinned=no
    [ -e "$SOURCES" ] || added=yes
    [ -e "$PREFERENCES" ] || pinned=yes
    install -m 644 "$sources" "$SOURCES"
    install -m 644 "$new/preferences" "$PREFERENCES"
}

apt_get() { DEBIAN_FRONTEND=noninteractive apt-get -o "DPkg::Lock::Timeout=$LOCK" -q "$@" </dev/null; }

main() {
    deb='' setup=yes
    # What is left over is setup's.
    left=$#
    while [ "$left" -gt 0 ]; do
        one=$1
        shift
        left=$((left - 1))
        case $one in
            --help | -h) usage; exit 0 ;;
            --no-setup) setup=no ;;
            --deb)
                [ "$left" -gt 0 ] || refuse "--deb needs a file"
                deb=$1
                shift
                left=$((left - 1))
                ;;
            *) set -- "$@" "$one" ;;
        esac
    done
    check_system
    check_ports
    if [ -n "$deb" ]; then
        [ -f "$deb" ] || refuse "there is no file $deb"
        theirs=$(dpkg-deb --field "$deb" Package Architecture 2>/dev/null | tr '\n' ' ') || theirs=
        [ "$theirs" = "Package: groundmist-sync Architecture: $architecture " ] || refuse "$deb is no package of groundmist-sync for $architecture"
        apt_get install -y "$(realpath "$deb")" || refuse "apt could not install it; what it says is above"
    else
        add_repository
        # This repository only: another that is broken is not in the way.
        apt_get -o "Dir::Etc::sourcelist=$SOURCES" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0 update ||
            { take_back; refuse "apt does not accept the repository $REPOSITORY; what it says is above"; }
        apt_get install -y groundmist-sync || refuse "apt could not install it; what it says is above"
    fi
    if [ "$setup" = no ]; then
        say "Installed. Set it up: groundmist-sync setup"
    # Standard input may be this script.
    elif [ -t 0 ]; then
        groundmist-sync setup "$@"
    elif (: </dev/tty) 2>/dev/null; then
        groundmist-sync setup "$@" </dev/tty
    elif [ $# -gt 0 ]; then
        groundmist-sync setup "$@" </dev/null
    else
        say "Installed. Here is nobody to ask; set it up in a terminal: groundmist-sync setup"
    fi
}

# At the end: a script that was cut off on the way does nothing.
main "$@"
