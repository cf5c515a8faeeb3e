#!/usr/bin/env bash
# Writes locks/ from pyproject.toml: every package, of every platform and Python 3.11 or newer, with its hashes.
#
#   tools/lock.sh              keeps each pin that still fits
#   tools/lock.sh --upgrade    takes the newest of everything
#
# PyTorch's builds for the CPU are not where packages usually are: UV_FIND_LINKS says where, and without it
# locks/torch.txt stays as it is.
#
# A lock names no registry, so that anyone can install from their own mirror.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=${UV:-.venv/bin/uv}

# lock NAME WHAT...: one lock file. uv's own options come last.
lock() {
    local name=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --custom-compile-command 'make lock' --output-file "locks/$name.txt" "${upgrade[@]}" "$@" >/dev/null
    printf 'locks/%s.txt: %d packages\n' "$name" "$(grep -c '^[A-Za-z0-9]' "locks/$name.txt")"
}

upgrade=("$@")
mkdir -p locks
lock hub pyproject.toml --extra all --group build
lock dev pyproject.toml --extra all --group dev --constraints locks/hub.txt
lock kfp-sdk --group pyproject.toml:kfp-sdk
lock kfp-runtime --group pyproject.toml:kfp-runtime --no-deps
if [ -n "${UV_FIND_LINKS:-}" ]; then lock torch --group pyproject.toml:torch-cpu --constraints locks/dev.txt; fi
lock installer --group pyproject.toml:installer --constraints locks/hub.txt

if grep -nE '://|--(index|extra-index|find-links|trusted-host)|(^|[ "])/[a-z]+/' locks/*.txt; then
    echo 'a lock names an address or a path of this machine (above): it must not be committed' >&2
    exit 1
fi
