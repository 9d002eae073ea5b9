#!/usr/bin/env bash
# A busy guest moves between two hosts of Debian 13.
# timeout: 1500
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/../e2e/lib-ok.sh"
# shellcheck source=tests/cross/cross.bash
. "$(dirname "$0")/cross.bash"

userlands trixie trixie
busy_move
