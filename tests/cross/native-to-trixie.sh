#!/usr/bin/env bash
# A busy guest moves from this machine's libvirt and QEMU to Debian 13's.
# timeout: 1500
# shellcheck source=tests/e2e/lib-ok.sh
. "$(dirname "$0")/../e2e/lib-ok.sh"
# shellcheck source=tests/cross/cross.bash
. "$(dirname "$0")/cross.bash"

userlands native trixie
busy_move
