#!/usr/bin/env bash
# The 21 real servers through edge and sidecar: see run.py, which takes the same arguments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../setup/install.sh" clients fleet
exec "$here/../../.tools/venv/mcp2/bin/python" "$here/run.py" "$@"
