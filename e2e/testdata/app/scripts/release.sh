#!/bin/sh
# The project's release hook: runs on each server in the folder of the new release.
set -eu
# A test names the host on which this hook shall fail.
if [ -f deploy/fail-on ] && [ "$(cat deploy/fail-on)" = "$(hostname)" ]; then
  echo "the hook fails on $(hostname), on purpose" >&2
  exit 7
fi
python3 -c 'import django; print("django", django.get_version())'
