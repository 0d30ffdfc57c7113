#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what some tests need in addition to the Python packages: Chromium, a JDK with Maven, PgBouncer,
# Node.js, the Kafka broker.
# Programs that are installed already are not changed.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
command -v chromium >/dev/null || missing+=(chromium)
command -v java >/dev/null || missing+=(default-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v node >/dev/null || missing+=(nodejs)
PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null || missing+=(pgbouncer)

if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null; then
        echo "These programs are missing, and apt-get does not exist here: install ${missing[*]} by hand" >&2
        exit 2
    fi
    as_root=()
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    echo "Installing the system packages ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
    # The tests start a PgBouncer of their own; the service of the package is not used.
    if [[ " ${missing[*]} " == *" pgbouncer "* && -d /run/systemd/system ]]; then
        "${as_root[@]}" systemctl disable --quiet --now pgbouncer
    fi
fi

if [[ -x deploy/kafka/fetch.sh ]]; then
    deploy/kafka/fetch.sh
fi
