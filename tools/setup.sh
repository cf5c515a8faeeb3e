#!/usr/bin/env bash
# Sets up what `make` needs, from the locks alone, and says what it does. Called by the Makefile; safe to call again.
#
#   tools/setup.sh python            .venv with pip, from locks/installer.txt
#   tools/setup.sh packages NAME     .venv as locks/NAME.txt says (hub or dev), and kfp's runtime
#   tools/setup.sh tallystick        this checkout into .venv, editable, with `tally`
#   tools/setup.sh kfp-sdk           .venv-kfp, as locks/kfp-sdk.txt says: the whole SDK, for tests
#   tools/setup.sh torch             PyTorch for the CPU into .venv, where pip finds that build; else says so
#   tools/setup.sh system COMMAND    Debian or Ubuntu packages without which something is skipped: bwrap, chromium, postgresql, ceph
#
# Every package comes with its hash, as a wheel, through the user's own pip configuration. TALLY_NO_APT=1 keeps this
# script from installing any system package: it then only says which command would.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The versions for which every locked package has a wheel, newest first.
readonly PYTHONS=(python3.14 python3.13 python3.12 python3.11)
readonly FITS='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'
readonly WHOLE='import ensurepip, sqlite3, ssl, venv'

say() { printf 'tally setup: %s\n' "$*"; }
stop() { printf 'tally setup: %s\n' "$*" >&2; exit 1; }

# ------------------------------------------------------------------------------------------------------ system packages

# May apt-get install be run, and how? Prints the prefix; fails where it may not.
apt_prefix() {
    [ -z "${TALLY_NO_APT:-}" ] && command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" = 0 ]; then echo 'env'
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then echo 'sudo env'
    else return 1
    fi
}

# apt_install PACKAGE WHY: says what and why, then installs it; fails, with the command to run, where it may not.
apt_install() {
    local package=$1 why=$2 prefix log
    if ! prefix=$(apt_prefix); then
        say "$package is missing: $why. Run: sudo apt-get install $package"
        return 1
    fi
    say "$package is missing: $why. Installing it with apt-get."
    log=$(mktemp)
    # shellcheck disable=SC2086  # the prefix is two words where it is sudo
    if ! { $prefix apt-get -qq update && $prefix DEBIAN_FRONTEND=noninteractive \
           apt-get -qq install -y --no-install-recommends "$package"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        say "apt-get could not install $package. Run: sudo apt-get install $package"
        return 1
    fi
    rm -f "$log"
}

system() {
    case $1 in
        bwrap)
            command -v bwrap >/dev/null || apt_install bubblewrap "it walls off the processes that run models" ||
                say "going on without: sandboxes will be plain processes with limits."
            ;;
        chromium)
            local name
            for name in chromium chromium-browser google-chrome google-chrome-stable; do
                if command -v "$name" >/dev/null; then return; fi
            done
            apt_install chromium "the console's tests drive it" || say "going on without: browser tests will be skipped."
            ;;
        postgresql)
            compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null ||
                apt_install postgresql "the record is tested on it as well" ||
                say "going on without: tests on PostgreSQL will be skipped."
            ;;
        ceph)
            local package
            for package in radosgw ceph-mon ceph-mgr ceph-osd; do
                if command -v "$package" >/dev/null; then continue; fi
                apt_install "$package" "the conformance tests of S3 run against Ceph" ||
                    { say "going on without: they will be skipped."; return; }
            done
            ;;
        *) stop "no system package is known for '$1'." ;;
    esac
}

# -------------------------------------------------------------------------------------------------------------- python

# The newest interpreter that fits, and is whole (Debian keeps ensurepip in a package of its own).
whole_python() {
    local name
    for name in "${PYTHONS[@]}" python3; do
        if "$name" -c "$FITS" 2>/dev/null && "$name" -c "$WHOLE" 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# The package that would give one: the missing half of an interpreter that is here, else the newest on offer.
python_package() {
    local name
    for name in "${PYTHONS[@]}" python3; do
        if "$name" -c "$FITS" 2>/dev/null; then
            "$name" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'
            return
        fi
    done
    for name in "${PYTHONS[@]}"; do
        if apt-cache show "$name-venv" >/dev/null 2>&1; then echo "$name-venv"; return; fi
    done
    echo python3-venv
}

find_python() {
    local prefix package
    whole_python && return
    if prefix=$(apt_prefix); then $prefix apt-get -qq update >/dev/null 2>&1 || true; fi
    package=$(python_package)
    apt_install "$package" "tallystick runs on Python 3.11 to 3.14 in an environment of its own" >&2 || return 1
    whole_python
}

# make_env ENV: a virtual environment with the pip that the locks name; one that works is kept.
make_env() {
    local env=$1 python
    if ! "$env/bin/python" -c "$FITS" 2>/dev/null; then
        python=$(find_python) || stop "without a whole Python 3.11 to 3.14 there is nothing to build on. Install one, then call make again."
        say "making $env with $("$python" --version) ($python)"
        "$python" -m venv --clear "$env"
    fi
    install_lock "$env" installer --only-binary=:all:
}

# ------------------------------------------------------------------------------------------------------------ packages

# Reads pip's chatter; shows one moving line on a terminal, nothing elsewhere.
progress() {
    local total=$1 n=0 word rest
    if [ ! -t 1 ]; then cat >/dev/null; return; fi
    while read -r word rest; do
        case $word in
            Collecting) printf '\r\033[K  fetching %d of %d: %s' "$((n += 1))" "$total" "${rest%% *}" ;;
            Installing) printf '\r\033[K  unpacking' ;;
        esac
    done
    printf '\r\033[K'
}

# install_lock ENV NAME PIP-OPTION...: what locks/NAME.txt pins, hash by hash.
install_lock() {
    local env=$1 name=$2 lock=locks/$2.txt log=$1/setup-$2.log total
    shift 2
    total=$(grep -c '^[A-Za-z0-9]' "$lock")
    SECONDS=0
    if ! "$env/bin/python" -u -m pip install --disable-pip-version-check --no-input --no-compile \
            --require-hashes "$@" -r "$lock" 2>&1 | tee "$log" | progress "$total"; then
        grep -v '^WARNING' "$log" | tail -n 15 >&2 || true
        stop "pip could not install $lock into $env (all of its output: $log)."
    fi
    say "$env has what $lock pins ($SECONDS s)"
}

# compile_env ENV: bytecode now, on every core, so that no start pays for it. pip would use one core. Where semaphores
# are refused (some containers) one core does it after all, and passes over what is done. Nobody imports the tests.
compile_env() {
    local compile=("$1/bin/python" -m compileall -qq -x '/tests?/')
    SECONDS=0
    "${compile[@]}" -j 0 "$1"/lib/python3.*/site-packages 2>/dev/null ||
        "${compile[@]}" "$1"/lib/python3.*/site-packages || true
    say "$1 is compiled ($SECONDS s)"
}

packages() {
    install_lock .venv "$1" --only-binary=:all:
    # kfp alone: its dependencies contradict the hub's, and a component's runtime needs none of them.
    install_lock .venv kfp-runtime --only-binary=:all: --no-deps
    compile_env .venv
}

# PyTorch's own build for the CPU is 200 MB, the one on common mirrors comes with gigabytes of CUDA: that one is never
# taken here. Where pip is not told of the former, tests that need torch are skipped, and say so.
torch() {
    local log=.venv/setup-torch.log
    SECONDS=0
    if .venv/bin/python -m pip install --disable-pip-version-check --no-input --no-compile --only-binary=:all: \
            --require-hashes -r locks/torch.txt >"$log" 2>&1; then
        say ".venv has what locks/torch.txt pins ($SECONDS s)"
        compile_env .venv
    else
        say "going on without torch: $(grep -m 1 '^ERROR' "$log" || tail -n 1 "$log")"
        say "tests of white-box attacks on networks will be skipped. Point pip at PyTorch's own wheels for the CPU to have it."
    fi
}

kfp_sdk() {
    make_env .venv-kfp
    # kfp-server-api comes as a source only: it is built with the locked setuptools, nothing else is fetched for it.
    install_lock .venv-kfp kfp-sdk --no-build-isolation
    compile_env .venv-kfp
}

tallystick() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-index --no-deps \
        --no-build-isolation --editable . 2>&1 | { grep -v '^WARNING' || true; }
    [ -x .venv/bin/tally ] || stop "pip could not install this checkout into .venv."
    say ".venv/bin/tally is ready"
}

case ${1:-} in
    python) make_env .venv ;;
    packages) packages "${2:?hub or dev}" ;;
    tallystick) tallystick ;;
    kfp-sdk) kfp_sdk ;;
    torch) torch ;;
    system) system "${2:?a command}" ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
