#!/usr/bin/env bash
# Real-socket tests that are about processes and operators' mistakes. Arguments go to pytest.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../setup/install.sh" clients
exec "$here/../../.tools/venv/mcp2/bin/python" -m pytest -q --no-header --tb=short -p no:cacheprovider "$here" "$here/../conformance" "$@" </dev/null
