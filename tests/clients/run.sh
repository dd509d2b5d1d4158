#!/usr/bin/env bash
# Real third-party clients through edge and sidecar: see run.py, which takes the same arguments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../setup/install.sh" fixtures clients
exec "$here/../../.tools/venv/mcp2/bin/python" "$here/run.py" "$@"
