#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the Apache Kafka broker and its libraries into .deps/kafka, unless this has been done.
set -euo pipefail
cd "$(dirname "$0")"
target="$(cd ../.. && pwd)/.deps/kafka"
mark="$target/.fetched-$(sha256sum pom.xml | cut -c1-16)"
if [[ -e $mark ]]; then
    exit 0
fi
for program in java mvn; do
    if ! command -v "$program" >/dev/null; then
        echo "$program is not installed: the Kafka broker is not fetched, and its tests are skipped" >&2
        exit 0
    fi
done
echo "Fetching the Kafka broker into .deps/kafka"
rm -rf "$target"
mvn -q -B dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$target"
touch "$mark"
