#!/usr/bin/env bash
# A busy guest moves from Debian 13's libvirt and QEMU back to older ones: its machine type
# is one that both know, and snmigrate asks nothing that the older side has not.
# timeout: 1500
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/../e2e/lib-ok.sh"
# shellcheck source=tests/cross/cross.bash
. "$(dirname "$0")/cross.bash"

userlands trixie native
busy_move
